// @ts-check
/**
 * <derm-depth>: chooses the audience of an answer. `lay` starts with the decision, how sure it is and what to
 * do, with the rest one tap away; `clinical` shows everything at once. Decisions and numbers are the same.
 */

import { el } from "../dom.js";
import { t } from "../i18n.js";

/** @typedef {"lay" | "clinical"} Depth */

const KEY = "aiderm-depth";
/** @type {readonly Depth[]} */
const DEPTHS = ["lay", "clinical"];
/** @type {Depth | null} */
let chosen = null;
/** Opened parts of the answer. @type {Set<string>} */
const opened = new Set();

/** The depth chosen in this browser; nothing is stored until one is chosen. @returns {Depth} */
export function depthOf() {
  if (chosen) return chosen;
  try {
    chosen = localStorage.getItem(KEY) === "clinical" ? "clinical" : "lay";
  } catch {
    chosen = "lay"; // the browser has no storage
  }
  return chosen;
}

/** @param {Depth} depth stored in this browser if possible, else kept until the page is closed */
export function chooseDepth(depth) {
  chosen = depth;
  try {
    if (depth === "clinical") localStorage.setItem(KEY, depth);
    else localStorage.removeItem(KEY);
  } catch {
    // it applies to this visit
  }
  document.dispatchEvent(new CustomEvent("depth", { detail: { depth } }));
}

/** The depth that is not chosen. @returns {Depth} */
export const otherDepth = () => (depthOf() === "lay" ? "clinical" : "lay");

/**
 * A button that shows and hides a part of the answer. Its state lasts until the page is closed.
 *
 * @param {"more" | "tools"} name of the data attribute of <main> that shows the part
 * @param {string} controls
 */
function disclosure(name, controls) {
  const button = el(
    "button",
    { type: "button", class: `disclosure ${name}-open`, "aria-controls": controls },
    t(`depth.${name}`),
  );
  const write = () => {
    button.setAttribute("aria-expanded", String(opened.has(name)));
    document.querySelector("main")?.toggleAttribute(`data-${name}`, opened.has(name));
  };
  button.addEventListener("click", () => {
    if (!opened.delete(name)) opened.add(name);
    write();
  });
  write();
  return button;
}

/** The button that shows lay readers the rest of the answer. */
export const moreButton = () => disclosure("more", "answer-rest findings");

/** The button that shows clinicians the self-check, keeping and printing. */
export const toolsButton = () => disclosure("tools", "after");

/** Event on the document: `depth` with `{depth}`, after a choice. */
export class DermDepth extends HTMLElement {
  /** @type {HTMLInputElement[]} */
  #inputs = [];

  /** Renders in the page's language. @param {...(Node | string)} beside */
  show(...beside) {
    const focused = this.#inputs.some((input) => input === document.activeElement);
    this.#inputs = DEPTHS.map((depth) => {
      const input = /** @type {HTMLInputElement} */ (
        el("input", { type: "radio", name: "depth", value: depth, checked: depth === depthOf() })
      );
      input.addEventListener("change", () => chooseDepth(depth));
      return input;
    });
    this.replaceChildren(
      el(
        "fieldset",
        { class: "depth" },
        el("legend", { class: "visually-hidden" }, t("depth.label")),
        ...this.#inputs.map((input) => el("label", {}, input, el("span", {}, t(`depth.${input.value}`)))),
      ),
      ...beside,
    );
    if (focused) this.#inputs.find((input) => input.checked)?.focus();
  }
}

customElements.define("derm-depth", DermDepth);

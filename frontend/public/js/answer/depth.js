// @ts-check
/**
 * <derm-depth>: for whom an answer is shown. `lay` leads with the decision, what to do and how sure that is,
 * the rest one tap away; `clinical` shows everything at once. No decision and no number differs between them.
 */

import { el } from "../dom.js";
import { t } from "../i18n.js";

/** @typedef {"lay" | "clinical"} Depth */

const KEY = "aiderm-depth";
/** @type {readonly Depth[]} */
const DEPTHS = ["lay", "clinical"];
/** @type {Depth | null} */
let chosen = null;
/** Parts of the answer that were opened. @type {Set<string>} */
const opened = new Set();

/** What was chosen in this browser; nothing is stored for those who chose nothing. @returns {Depth} */
export function depthOf() {
  if (chosen) return chosen;
  try {
    chosen = localStorage.getItem(KEY) === "clinical" ? "clinical" : "lay";
  } catch {
    chosen = "lay"; // a browser that keeps nothing
  }
  return chosen;
}

/** @param {Depth} depth kept in this browser where that is possible; else until the page is closed */
export function chooseDepth(depth) {
  chosen = depth;
  try {
    if (depth === "clinical") localStorage.setItem(KEY, depth);
    else localStorage.removeItem(KEY);
  } catch {
    // it holds for this visit
  }
  document.dispatchEvent(new CustomEvent("depth", { detail: { depth } }));
}

/** The depth that is not chosen now. @returns {Depth} */
export const otherDepth = () => (depthOf() === "lay" ? "clinical" : "lay");

/**
 * A button that shows and hides a part of the answer, and stays as it was left until the page is closed.
 *
 * @param {"more" | "tools"} name of the attribute of <main> that the style sheet shows the part by
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

/** What lay readers find the rest of the answer behind. */
export const moreButton = () => disclosure("more", "answer-rest findings");

/** What clinicians find keeping, printing and the self-check behind. */
export const toolsButton = () => disclosure("tools", "after");

/** Event out: `depth` at the document, with `{depth}`, after a choice. */
export class DermDepth extends HTMLElement {
  /** @type {HTMLInputElement[]} */
  #inputs = [];

  /** Writes itself in the language of the page. @param {...(Node | string)} beside */
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

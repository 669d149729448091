// @ts-check
/**
 * <derm-lesion>: what was measured inside the outline, for clinicians: observations, never a score. No
 * decision depends on them.
 */

import { button, el } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { MEASURES, measured } from "./correction.js";

/** @typedef {import("../api.js").Assessment} Assessment */
/** What was measured inside the outline, of which part of which picture.
 * @typedef {Pick<Assessment, "region" | "lesion"> & {image: Pick<Assessment["image"], "width" | "height">}}
 *   Observed */
/** @typedef {import("./shape.js").Point} Point */
/** @typedef {import("./shape.js").Shape} Shape */

/** @param {keyof Shape} name @param {number} value */
const written = (name, value) => (name === "border" ? number(value, 3) : percent(value, value < 0.1 ? 1 : 0));

/**
 * Rows of name and value.
 *
 * @param {Observed} observed with a lesion
 * @param {Point[] | null} [corrected]
 * @returns {[string, string][]}
 */
export function lesionRows(observed, corrected) {
  const { lesion } = observed;
  if (!lesion) return [];
  const anew = corrected && measured(observed, corrected);
  const rows = MEASURES.map((name) => {
    const { value, low, high } = lesion[name];
    const range = { value: written(name, value), low: written(name, low), high: written(name, high) };
    return /** @type {[string, string]} */ ([
      t(`lesion.${name}`),
      anew ? written(name, anew[name]) : t("lesion.range", range),
    ]);
  });
  const colours = lesion.colours.map(({ name, share }) =>
    t("lesion.share", { name: t(`lesion.colour.${name}`), share: percent(share, 0) }),
  );
  return [...rows, [t("lesion.colours"), colours.join(" · ")]];
}

/** Who drew the outline, and what that means for the ranges. @param {Point[] | null} [corrected] */
export const lesionWords = (corrected) => t(corrected ? "lesion.byHand" : "lesion.byModel");

export class DermLesion extends HTMLElement {
  #heading = el("h2", { id: "lesion-title" });
  #lead = el("p", { class: "soft" });
  #facts = el("dl", { class: "facts" });
  #words = el("p", { class: "soft", role: "status" });
  #how = el("p", { class: "soft" });
  #correct = button("", () => this.#drawing?.correct(!this.#drawing.correcting));
  #undo = button("", () => this.#drawing?.undo());
  #reset = button("", () => this.#drawing?.reset());
  /** @type {import("./drawing.js").OutlineDrawing | null} */
  #drawing = null;

  constructor() {
    super();
    document.addEventListener("correcting", (event) => {
      this.#showTools();
      if (/** @type {CustomEvent<{left: boolean}>} */ (event).detail.left) this.#correct.focus();
    });
  }

  connectedCallback() {
    this.setAttribute("aria-labelledby", this.#heading.id);
    const tools = el("div", { class: "actions" }, this.#correct, this.#undo, this.#reset);
    this.replaceChildren(this.#heading, this.#lead, this.#facts, this.#words, tools, this.#how);
  }

  /**
   * @param {{assessment: Assessment | null, corrected: Point[] | null, clinical: boolean,
   *   drawing: import("./drawing.js").OutlineDrawing}} content
   */
  show({ assessment, corrected, clinical, drawing }) {
    this.#drawing = drawing;
    this.hidden = !clinical || !assessment?.lesion;
    if (!assessment || this.hidden) return;
    this.#heading.textContent = t("lesion.title");
    this.#lead.textContent = t("lesion.lead");
    const rows = lesionRows(assessment, corrected);
    this.#facts.replaceChildren(
      ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    );
    const words = lesionWords(corrected);
    if (this.#words.textContent !== words) this.#words.textContent = words;
    this.#undo.textContent = t("lesion.undo");
    this.#reset.textContent = t("lesion.reset");
    this.#how.textContent = t("lesion.how");
    this.#showTools();
  }

  #showTools() {
    if (!this.#drawing) return;
    const { correcting, mayUndo, corrected } = this.#drawing;
    this.#correct.textContent = t(correcting ? "lesion.done" : "lesion.correct");
    this.#how.hidden = !correcting;
    // that which has the focus keeps it
    this.#undo.setAttribute("aria-disabled", String(!mayUndo));
    this.#reset.setAttribute("aria-disabled", String(!corrected));
    this.#undo.hidden = this.#reset.hidden = !correcting && !corrected;
  }
}

customElements.define("derm-lesion", DermLesion);

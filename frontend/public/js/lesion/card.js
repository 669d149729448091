// @ts-check
/**
 * <derm-lesion>: measurements inside the outline, for clinicians: observations, never a score. No decision
 * depends on them.
 */

import { button, el } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { MEASURES, measured } from "./correction.js";

/** @typedef {import("../api.js").Assessment} Assessment */
/**
 * Measurements inside the outline, with the region and image that they refer to.
 *
 * @typedef {Pick<Assessment["image"], "width" | "height" | "pixel_spacing_mm">} Size
 * @typedef {Pick<Assessment, "region" | "lesion"> & {image: Size}} Observed
 */
/** @typedef {{value: number, low: number, high: number}} Range */
/** @typedef {import("./shape.js").Point} Point */
/** @typedef {import("./shape.js").Shape} Shape */

/** @typedef {import("./correction.js").Millimetres} Millimetres */

/** @type {Partial<Record<keyof Shape, {field: keyof Millimetres, unit: string}>>} */
const SCALED = {
  area: { field: "area_mm2", unit: "mm2" },
  diameter: { field: "diameter_mm", unit: "mm" },
};

/** @param {keyof Shape} name @param {number} value */
const written = (name, value) => (name === "border" ? number(value, 3) : percent(value, value < 0.1 ? 1 : 0));

/** @param {Range} range @param {(value: number) => string} write */
const rangeWords = ({ value, low, high }, write) =>
  t("lesion.range", { value: write(value), low: write(low), high: write(high) });

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
    const { field, unit } = SCALED[name] ?? {};
    const scaled = field && (anew ? anew[field] : rangeOf(lesion, field));
    const write = (/** @type {number} */ value) =>
      scaled ? t(`lesion.${unit}`, { value: number(value, value < 10 ? 2 : 3) }) : written(name, value);
    const value = scaled || (anew ? anew[name] : lesion[name]);
    return /** @type {[string, string]} */ ([
      t(scaled ? `lesion.${name}Scaled` : `lesion.${name}`),
      typeof value === "number" ? write(value) : rangeWords(value, write),
    ]);
  });
  const colours = lesion.colours.map(({ name, share }) =>
    t("lesion.share", { name: t(`lesion.colour.${name}`), share: percent(share, 0) }),
  );
  return [...rows, [t("lesion.colours"), colours.join(" · ")]];
}

/**
 * The model's measurement; null for millimetres if the file states no scale.
 *
 * @param {NonNullable<Assessment["lesion"]> & {[name in keyof Millimetres]?: Range | null}} lesion
 * @param {keyof Shape | keyof Millimetres} name
 */
export const rangeOf = (lesion, name) => lesion[name] ?? null;

/** What the observations are, and whether a scale is known. @param {Observed} observed */
export const lesionLead = ({ image }) => t(image.pixel_spacing_mm ? "lesion.leadScaled" : "lesion.lead");

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
    this.#lead.textContent = lesionLead(assessment);
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
    // aria-disabled, so that a focused button keeps the focus
    this.#undo.setAttribute("aria-disabled", String(!mayUndo));
    this.#reset.setAttribute("aria-disabled", String(!corrected));
    this.#undo.hidden = this.#reset.hidden = !correcting && !corrected;
  }
}

customElements.define("derm-lesion", DermLesion);

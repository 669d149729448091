// @ts-check
/** <derm-findings>: what stands behind the decision: warnings, classes, and figures for those who want them. */

import { el, setVars } from "./dom.js";
import { IMAGE_NOTES, QUALITY_NAMES, number, outOfHundred, percent } from "./messages.js";

/** @typedef {import("./api.js").Assessment} Assessment */

/** Property in: `assessment`; null empties it. */
export class DermFindings extends HTMLElement {
  /** @param {Assessment | null} assessment */
  set assessment(assessment) {
    const cards = assessment ? [warnings(assessment), classes(assessment), figures(assessment)].filter((card) => card !== null) : [];
    this.hidden = cards.length === 0;
    this.replaceChildren(...cards);
  }
}

/** @param {Assessment} assessment */
function warnings({ quality, image }) {
  const texts = [
    ...quality.warnings.map(({ text }) => text),
    ...image.notes.map((code) => IMAGE_NOTES[code] ?? null),
  ].filter((text) => text !== null);
  if (texts.length === 0) return null;
  return el(
    "section",
    { class: "card warnings", "aria-labelledby": "warnings-title" },
    el("h2", { id: "warnings-title" }, "About the picture"),
    el("ul", { class: "plain-list" }, ...texts.map((text) => el("li", {}, text))),
  );
}

/** @param {Assessment} assessment */
function classes({ decision, classes: found, malignancy }) {
  if (decision === "rejected" || !malignancy || found.length === 0) return null;
  const items = found.map(({ name, malignant, probability }) => {
    const bar = el("span");
    setVars(bar, { share: probability * 100 });
    return el(
      "li",
      { class: malignant ? "malignant" : "" },
      el("span", {}, name, malignant ? el("span", { class: "tag" }, "malignant") : null),
      el("span", { class: "value" }, percent(probability)),
      el("span", { class: "bar", "aria-hidden": "true" }, bar),
    );
  });
  return el(
    "section",
    { class: "card", "aria-labelledby": "classes-title" },
    el("h2", { id: "classes-title" }, "What it looks like to the model"),
    el("p", { class: "soft" }, `Probabilities if ${outOfHundred(malignancy.prevalence)} are malignant. The decision rests on the sum of the malignant classes, not on the first in the list.`),
    el("ol", { class: "classes" }, ...items),
  );
}

/** @param {Assessment} assessment */
function figures({ decision, model, request_id: requestId, novelty, quality, image, region, timing_ms: timing }) {
  if (decision === "rejected") return null;
  const measures = Object.entries(quality).filter(([, value]) => typeof value === "number");
  /** @type {[string, string | Node][]} */
  const rows = [
    ["Model", `${model.name}, version ${model.version}`],
    ["Distance from training pictures", `${number(novelty.score)} (not judged above ${number(novelty.limit)})`],
    ...measures.map(([metric, value]) => /** @type {[string, string]} */ ([QUALITY_NAMES[metric] ?? metric, number(Number(value))])),
    ["Picture", `${image.width} × ${image.height} pixels, ${image.format.toUpperCase()}`],
    ["Judged part", `${region.width} × ${region.height} pixels, from ${region.x}, ${region.y}`],
    ["Time at the server", `${number(Math.round(timing.total ?? 0))} ms`],
    ["Request", el("code", {}, requestId)],
  ];
  return el(
    "details",
    { class: "card" },
    el("summary", {}, "Figures for this answer"),
    el("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
  );
}

customElements.define("derm-findings", DermFindings);

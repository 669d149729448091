// @ts-check
/**
 * <derm-findings>: what the decision is based on: warnings, classes and, in a disclosure, all figures.
 */

import { el, setVars } from "../dom.js";
import { has, number, outOfHundred, percent, t } from "../i18n.js";
import { className, classText, warningWords } from "./words.js";

/** @typedef {import("../api.js").Assessment} Assessment */

/**
 * Properties: `compressed`, whether the file is heavily compressed; `open`, whether the figures are visible
 * at first; set `assessment` last; null clears the element.
 */
export class DermFindings extends HTMLElement {
  compressed = false;
  open = false;

  /** @param {Assessment | null} assessment */
  set assessment(assessment) {
    const cards = assessment
      ? [warnings(assessment, this.compressed), classes(assessment), figures(assessment, this.open)].filter(
          (card) => card !== null,
        )
      : [];
    this.hidden = cards.length === 0;
    this.replaceChildren(...cards);
  }
}

/** @param {Assessment} assessment @param {boolean} compressed */
function warnings({ quality, image, novelty, decision, reasons }, compressed) {
  const near = decision !== "rejected" && novelty.score > 0.8 * novelty.limit ? [t("findings.unusual")] : [];
  const notes = image.notes.filter((code) => has(`note.${code}`)).map((code) => t(`note.${code}`));
  const lossy = compressed && decision !== "rejected" ? [t("findings.compressed")] : [];
  const lines = [...warningsOf({ quality, reasons }).map(warningWords), ...near, ...lossy, ...notes];
  if (lines.length === 0) return null;
  return el(
    "section",
    { class: "card warnings", "aria-labelledby": "warnings-title" },
    el("h2", { id: "warnings-title" }, t("findings.picture")),
    el("ul", { class: "plain-list" }, ...lines.map((line) => el("li", {}, line))),
  );
}

// These warnings only make sense for a lesion under a dermatoscope.
const OF_A_LESION = ["hair", "ruler", "ink", "off_centre"];

/**
 * The warnings that apply: without hair, pen marks and the like if the picture is not dermoscopic.
 * @param {Pick<Assessment, "quality" | "reasons">} assessment
 */
export function warningsOf({ quality, reasons }) {
  const unlike = reasons.some(({ code }) => code === "novelty");
  return quality.warnings.filter(({ code }) => !(unlike && OF_A_LESION.includes(code)));
}

/**
 * If the most probable class and the decision seem to disagree, explains why that is no contradiction.
 *
 * @param {Assessment} assessment
 */
function difference({ decision, classes: [first] }) {
  const name = classText(first);
  if (decision !== "low_suspicion" && !first.malignant) return t(`findings.differs.${decision}`, { name });
  if (decision === "low_suspicion" && first.malignant) return t("findings.differs.low_suspicion", { name });
  return null;
}

/** @param {Assessment} assessment */
function classes(assessment) {
  const { decision, classes: found, malignancy } = assessment;
  if (decision === "rejected" || !malignancy || found.length === 0) return null;
  const items = found.map((label) => {
    const bar = el("span");
    setVars(bar, { share: label.probability * 100 });
    return el(
      "li",
      { class: label.malignant ? "malignant" : "" },
      el(
        "span",
        {},
        className(label),
        label.malignant && el("span", { class: "tag" }, t("findings.malignant")),
      ),
      el("span", { class: "value" }, percent(label.probability)),
      el("span", { class: "bar", "aria-hidden": "true" }, bar),
    );
  });
  const differs = difference(assessment);
  return el(
    "section",
    { class: "card", "aria-labelledby": "classes-title" },
    el("h2", { id: "classes-title" }, t("findings.classes")),
    differs && el("p", { class: "differs" }, differs),
    el("p", { class: "soft" }, t("findings.assumed", { share: outOfHundred(malignancy.prevalence) })),
    el("ol", { class: "classes" }, ...items),
    evenly(assessment),
  );
}

/** The best match if all classes were equally common. @param {Assessment} assessment */
function evenly({ most_likely: found }) {
  if (!found) return null;
  const values = { name: classText(found), share: percent(found.probability_at_even_prevalence) };
  return el("p", { class: "soft evenly" }, t("findings.even", values));
}

/**
 * The figures of an answer, as rows of name and value.
 *
 * @param {Assessment} assessment
 * @returns {[string, string | Node][]}
 */
export function figureRows({
  model,
  request_id: requestId,
  novelty,
  quality,
  image,
  region,
  timing_ms: timing,
}) {
  const measures = Object.entries(quality).filter(([, value]) => typeof value === "number");
  return [
    [t("figure.model"), t("figure.modelVersion", { name: model.name, version: model.version })],
    [
      t("figure.novelty"),
      t("figure.noveltyValue", { score: number(novelty.score), limit: number(novelty.limit) }),
    ],
    ...measures.map(
      ([metric, value]) =>
        /** @type {[string, string]} */ ([
          has(`quality.${metric}.name`) ? t(`quality.${metric}.name`) : metric,
          number(Number(value)),
        ]),
    ),
    [
      t("figure.picture"),
      t("figure.pictureValue", {
        width: image.width,
        height: image.height,
        format: image.format.toUpperCase(),
      }),
    ],
    [
      t("figure.region"),
      t("figure.regionValue", { width: region.width, height: region.height, x: region.x, y: region.y }),
    ],
    [t("figure.time"), t("figure.milliseconds", { count: Math.round(timing.total ?? 0) })],
    [t("figure.request"), el("code", { dir: "ltr" }, requestId)],
  ];
}

/** @param {Assessment} assessment @param {boolean} open */
function figures(assessment, open) {
  if (assessment.decision === "rejected") return null;
  return el(
    "details",
    { class: "card figures", open },
    el("summary", {}, t("figure.title")),
    el(
      "dl",
      { class: "facts" },
      ...figureRows(assessment).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
  );
}

customElements.define("derm-findings", DermFindings);

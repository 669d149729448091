// @ts-check
/** The printed report: picture, heatmap, figures, model, date, disclaimer. Shown only in print. */

import { el } from "../dom.js";
import { currentLanguage, date, outOfHundred, percent, t, texts } from "../i18n.js";
import { lesionLead, lesionRows, lesionWords } from "../lesion/card.js";
import { outlineOver } from "../lesion/drawing.js";
import { frequencyValues } from "./frequency.js";
import { figureRows, warningsOf } from "./findings.js";
import { className, reasonWords, warningWords } from "./words.js";

/** @typedef {import("../api.js").Assessment} Assessment */

/** @typedef {import("../lesion/shape.js").Point[] | null | undefined} Corrected */

/** @param {Assessment} assessment @param {string} url of the picture @param {Corrected} corrected */
function pictures({ heatmap, region, image, lesion }, url, corrected) {
  const photo = el("img", { src: url, alt: "" });
  const heat = heatmap && el("img", { class: "paper-heat", src: heatmap, alt: "" });
  const assessed = el(
    "div",
    { class: "paper-frame", dir: "ltr" },
    photo,
    heat,
    lesion && outlineOver({ lesion, image }, corrected, "paper-lesion"),
  );
  for (const [name, part, whole] of /** @type {[string, number, number][]} */ ([
    ["x", region.x, image.width],
    ["y", region.y, image.height],
    ["w", region.width, image.width],
    ["h", region.height, image.height],
  ])) {
    assessed.style.setProperty(`--${name}`, `${(100 * part) / whole}%`);
  }
  const sent = el("img", { class: "paper-photo", src: url, alt: "" });
  const both = el(
    "div",
    { class: "paper-pictures" },
    el("figure", {}, sent, el("figcaption", {}, t("report.picture"))),
    heatmap &&
      el(
        "figure",
        {},
        assessed,
        el("figcaption", {}, t("report.heatmap")),
        lesion && el("figcaption", { class: "paper-lesion" }, lesionWords(corrected)),
      ),
  );
  both.style.setProperty("--ratio", String(image.width / image.height));
  return both;
}

/**
 * @param {Assessment} assessment
 * @param {Date} at
 * @returns {[string, string | Node][]}
 */
function rowsOf(assessment, at) {
  const { decision, malignancy, model } = assessment;
  /** @type {[string, string]} */
  const day = [t("report.date"), date(at, true)];
  if (!malignancy || decision === "rejected") {
    return [day, [t("figure.model"), t("figure.modelVersion", { name: model.name, version: model.version })]];
  }
  const { probability, prevalence, threshold, uncertain } = malignancy;
  const estimate = { value: percent(probability, 1), share: outOfHundred(prevalence) };
  const band = { low: percent(uncertain[0], 1), high: percent(uncertain[1], 1) };
  return [
    day,
    [t("scale.title"), t("report.estimate", estimate)],
    [t("report.threshold"), percent(threshold, 1)],
    [t("report.band"), t("report.range", band)],
    ...figureRows(assessment),
  ];
}

/** Blanks to fill in by hand. */
const blanks = () =>
  el(
    "dl",
    { class: "paper-blanks" },
    ...["patient", "site", "taken"].map((name) => el("div", {}, el("dt", {}, t(`report.${name}`)), el("dd"))),
  );

/** @param {[import("../dom.js").Child, import("../dom.js").Child][]} rows */
const factsOf = (rows) =>
  el("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

/**
 * @param {{assessment: Assessment, url: string, name: string, at: Date, corrected?: Corrected}} content `url`
 *   and `name` of the picture; `corrected`: the outline corrected by hand
 * @returns {HTMLElement}
 */
export function paperReport({ assessment, url, name, at, corrected }) {
  const { decision, malignancy, classes } = assessment;
  const words = `verdict.${decision}`;
  const lines = [
    ...assessment.reasons.filter(({ code }) => code !== "threshold").map(reasonWords),
    ...warningsOf(assessment).map(warningWords),
  ];
  const estimated = Boolean(malignancy) && decision !== "rejected";
  return el(
    "section",
    { class: "paper", "aria-hidden": "true" },
    el("p", { class: "paper-brand" }, t("meta.name")),
    el("p", { class: "paper-disclaimer" }, t("disclaimer.all")),
    currentLanguage() !== "en" && el("p", {}, t("translation.line")),
    el("p", { class: "paper-decision" }, t(`${words}.title`)),
    el("p", {}, t(`${words}.meaning`)),
    estimated && malignancy && el("p", {}, t("verdict.frequency", frequencyValues(malignancy))),
    blanks(),
    lines.length > 0 && el("ul", {}, ...lines.map((line) => el("li", {}, line))),
    pictures(assessment, url, corrected),
    el("p", {}, el("strong", {}, t("verdict.next"))),
    el("ul", {}, ...texts(`${words}.next`).map((step) => el("li", {}, step))),
    el("p", {}, el("strong", {}, t("safety.whatever"))),
    factsOf([[t("report.file"), name || t("queue.unnamed")], ...rowsOf(assessment, at)]),
    assessment.lesion &&
      el(
        "div",
        { class: "paper-lesion" },
        el("p", {}, el("strong", {}, t("lesion.title"))),
        el("p", {}, lesionLead(assessment)),
        factsOf(lesionRows(assessment, corrected)),
      ),
    estimated && el("p", {}, el("strong", {}, t("findings.classes"))),
    estimated && factsOf(classes.map((label) => [className(label), percent(label.probability)])),
  );
}

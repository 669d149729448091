// @ts-check
/** The answer on paper: picture, heatmap, figures, model, date, disclaimer. Shown in print alone. */

import { el } from "../dom.js";
import { date, outOfHundred, percent, t, texts } from "../i18n.js";
import { figureRows, warningsOf } from "./findings.js";
import { className, reasonWords, warningWords } from "./words.js";

/** @typedef {import("../api.js").Assessment} Assessment */

/**
 * @param {{assessment: Assessment, url: string, at: Date}} content `url` of the picture
 * @returns {HTMLElement}
 */
export function paperReport({ assessment, url, at }) {
  const { decision, malignancy, classes, heatmap, region, image, model } = assessment;
  const words = `verdict.${decision}`;
  const judged = el("div", { class: "paper-frame", dir: "ltr" }, el("img", { src: url, alt: "" }), heatmap && el("img", { class: "paper-heat", src: heatmap, alt: "" }));
  for (const [name, part, whole] of /** @type {[string, number, number][]} */ ([
    ["x", region.x, image.width], ["y", region.y, image.height], ["w", region.width, image.width], ["h", region.height, image.height],
  ])) {
    judged.style.setProperty(`--${name}`, `${(100 * part) / whole}%`);
  }
  const pictures = el(
    "div",
    { class: "paper-pictures" },
    el("figure", {}, el("img", { class: "paper-photo", src: url, alt: "" }), el("figcaption", {}, t("report.picture"))),
    heatmap && el("figure", {}, judged, el("figcaption", {}, t("report.heatmap"))),
  );
  pictures.style.setProperty("--ratio", String(image.width / image.height));
  /** @type {[string, string | Node][]} */
  const rows = [[t("report.date"), date(at, true)]];
  if (malignancy && decision !== "rejected") {
    rows.push(
      [t("scale.title"), t("report.estimate", { value: percent(malignancy.probability, 1), share: outOfHundred(malignancy.prevalence) })],
      [t("report.threshold"), percent(malignancy.threshold, 1)],
      [t("report.band"), t("report.range", { low: percent(malignancy.uncertain[0], 1), high: percent(malignancy.uncertain[1], 1) })],
      ...figureRows(assessment),
    );
  } else {
    rows.push([t("figure.model"), t("figure.modelVersion", { name: model.name, version: model.version })]);
  }
  const lines = [...assessment.reasons.filter(({ code }) => code !== "threshold").map(reasonWords), ...warningsOf(assessment).map(warningWords)];
  return el(
    "section",
    { class: "paper", "aria-hidden": "true" },
    el("p", { class: "paper-brand" }, t("meta.name")),
    el("p", { class: "paper-disclaimer" }, t("disclaimer.all")),
    el("p", { class: "paper-decision" }, t(`${words}.title`)),
    el("p", {}, t(`${words}.meaning`)),
    lines.length > 0 && el("ul", {}, ...lines.map((line) => el("li", {}, line))),
    pictures,
    el("p", {}, el("strong", {}, t("verdict.next"))),
    el("ul", {}, ...texts(`${words}.next`).map((step) => el("li", {}, step))),
    el("p", {}, el("strong", {}, t("safety.whatever"))),
    el("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    malignancy && decision !== "rejected" && el("p", {}, el("strong", {}, t("findings.classes"))),
    malignancy && decision !== "rejected" && el("dl", { class: "facts" }, ...classes.flatMap((label) => [el("dt", {}, className(label)), el("dd", {}, percent(label.probability))])),
  );
}

// @ts-check
/** The charts for a segment of report.json, with their axes. */

import { number, percent, t } from "../i18n.js";
import { draw } from "./chart.js";

const ROWS = 20; // of a curve's table; the curve itself has up to 200 points

/** @param {number} length */
const sample = (length) => [
  ...new Set(
    Array.from({ length: Math.min(ROWS, length) }, (_, at) =>
      Math.round((at * (length - 1)) / Math.max(1, Math.min(ROWS, length) - 1)),
    ),
  ),
];

/**
 * A curve of one rate against another.
 *
 * @param {"roc" | "pr"} kind
 * @param {{x: number[], y: number[], threshold: (number | null)[]}} curve
 * @param {[number, number]} chance start and end of the curve of a random guess
 * @param {Record<string, string | number>} values for the summary
 * @param {number | undefined} area
 */
function rates(kind, { x, y, threshold }, chance, values, area) {
  return draw({
    title: t(`model.${kind}.title`),
    summary: t(`model.${kind}.summary`, { area: area === undefined ? "–" : number(area, 3), ...values }),
    xName: t(`model.${kind}.x`),
    yName: t(`model.${kind}.y`),
    xRange: [0, 1],
    yRange: [0, 1],
    series: [
      { name: t("model.served"), kind: "line", x, y },
      { name: t(`model.${kind}.chance`), kind: "reference", x: [0, 1], y: chance },
    ],
    columns: [t("model.threshold"), t(`model.${kind}.x`), t(`model.${kind}.y`)],
    rows: sample(x.length).map((at) => [threshold[at] ?? "–", x[at], y[at]]),
  });
}

/** @param {any} segment @param {number | undefined} area */
function roc({ roc: curve, count, malignant }, area) {
  if (!curve) return null;
  const { false_positive_rate: x, true_positive_rate: y, threshold } = curve;
  return rates("roc", { x, y, threshold }, [0, 1], { count, malignant }, area);
}

/** @param {any} segment @param {number | undefined} area */
function precisionRecall({ pr: curve }, area) {
  if (!curve) return null;
  const { recall: x, precision: y, threshold, base_rate: base } = curve;
  return rates("pr", { x, y, threshold }, [base, base], { base: percent(base) }, area);
}

/** @param {any} segment */
function reliability({ reliability: bins }) {
  if (!bins?.length) return null;
  return draw({
    title: t("model.reliability.title"),
    summary: t("model.reliability.summary", { count: bins.length }),
    xName: t("model.reliability.x"),
    yName: t("model.reliability.y"),
    xRange: [0, 1],
    yRange: [0, 1],
    series: [{ name: t("model.reliability.ideal"), kind: "reference", x: [0, 1], y: [0, 1] }],
    points: bins.map((/** @type {any} */ { mean_probability: x, observed: y, ci95, count }) => ({
      x,
      y,
      low: ci95?.[0] ?? y,
      high: ci95?.[1] ?? y,
      count,
    })),
    columns: [t("model.reliability.x"), t("model.reliability.y"), t("model.interval"), t("model.count")],
    rows: bins.map((/** @type {any} */ { mean_probability: x, observed: y, ci95, count }) => [
      x,
      y,
      ci95 ? t("model.range", { low: number(ci95[0], 3), high: number(ci95[1], 3) }) : "–",
      count,
    ]),
  });
}

/** @param {any} segment */
function decisionCurve({ decision_curve: curve }) {
  if (!curve) return null;
  const { threshold: x, model, treat_all: all, low, high } = curve;
  const top = Math.max(...model, ...(high ?? [])) * 1.1;
  return draw({
    title: t("model.decision.title"),
    summary: t("model.decision.summary"),
    xName: t("model.decision.x"),
    yName: t("model.decision.y"),
    xRange: [0, x.at(-1)],
    yRange: [Math.min(0, -top / 5), top],
    series: [
      { name: t("model.served"), kind: "line", x, y: model },
      { name: t("model.decision.all"), kind: "second", x, y: all },
      { name: t("model.decision.none"), kind: "reference", x: [0, x.at(-1)], y: [0, 0] },
    ],
    band: low && high ? { x, low, high } : undefined,
    columns: [t("model.decision.x"), t("model.served"), t("model.decision.all")],
    rows: sample(x.length).map((at) => [x[at], model[at], all[at]]),
  });
}

/** @param {any} segment */
function histogram({ histogram: bars }) {
  if (!bars) return null;
  const top = Math.max(1, ...bars.malignant, ...bars.benign);
  return draw({
    title: t("model.histogram.title"),
    summary: t("model.histogram.summary"),
    xName: t("model.histogram.x"),
    yName: t("model.count"),
    xRange: [bars.edges[0], bars.edges.at(-1)],
    yRange: [0, top],
    bars,
    columns: [t("model.histogram.x"), t("model.malignant"), t("model.benign")],
    rows: bars.malignant.map((/** @type {number} */ count, /** @type {number} */ at) => [
      t("model.range", { low: number(bars.edges[at], 3), high: number(bars.edges[at + 1], 3) }),
      count,
      bars.benign[at],
    ]),
  });
}

/**
 * @param {any} segment
 * @param {Record<string, {value: number}>} metrics of the same rows
 * @returns {HTMLElement[]}
 */
export function curvesOf(segment, metrics) {
  const charts = [
    roc(segment, metrics?.roc_auc?.value),
    precisionRecall(segment, metrics?.pr_auc?.value),
    reliability(segment),
    decisionCurve(segment),
    histogram(segment),
  ];
  return charts.filter((chart) => chart !== null);
}

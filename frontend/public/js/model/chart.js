// @ts-check
/** Curves and bars as SVG, drawn from a report's numbers, each with a table of the same numbers. */

import { el, svg } from "../dom.js";
import { number, t } from "../i18n.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [400, 300, 58, 38, 10, 12];

/** @typedef {{name: string, kind: "line" | "second" | "reference", x: number[], y: number[]}} Series */
/** @typedef {{x: number, y: number, low: number, high: number, count: number}} Point */
/**
 * @typedef {{
 *   title: string,
 *   summary: string,
 *   xName: string,
 *   yName: string,
 *   xRange: [number, number],
 *   yRange: [number, number],
 *   series?: Series[],
 *   band?: {x: number[], low: number[], high: number[]},
 *   points?: Point[],
 *   bars?: {edges: number[], malignant: number[], benign: number[]},
 *   columns: string[],
 *   rows: (string | number)[][],
 * }} Chart
 */

/** About five round numbers in a range. @param {number} low @param {number} high */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step =
    /** @type {number} */ ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999)) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, at) => (first + at) * step);
}

/** Functions that map a chart's numbers to positions in its drawing. @param {Chart} chart */
function placesOf({ xRange, yRange }) {
  const share = (/** @type {number} */ value, /** @type {[number, number]} */ [from, to]) =>
    (value - from) / (to - from);
  const px = (/** @type {number} */ x) => LEFT + share(x, xRange) * (WIDTH - LEFT - RIGHT);
  const inside = (/** @type {number} */ y) => Math.min(yRange[1], Math.max(yRange[0], y));
  const py = (/** @type {number} */ y) =>
    HEIGHT - BOTTOM - share(inside(y), yRange) * (HEIGHT - BOTTOM - TOP);
  const path = (/** @type {number[]} */ x, /** @type {number[]} */ y) =>
    `M${x.map((value, at) => `${px(value).toFixed(1)} ${py(y[at]).toFixed(1)}`).join("L")}`;
  return { px, py, path };
}

/** @typedef {ReturnType<typeof placesOf>} Places */

/** Grid, axes and their names. @param {Chart} chart @param {Places} places */
function frame({ xRange, yRange, xName, yName }, { px, py }) {
  const middle = `translate(11 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`;
  return [
    ...ticks(...xRange).flatMap((x) => [
      svg("line", { class: "grid", x1: px(x), x2: px(x), y1: TOP, y2: HEIGHT - BOTTOM }),
      svg("text", { x: px(x), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, number(x)),
    ]),
    ...ticks(...yRange).flatMap((y) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y) }),
      svg("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, number(y)),
    ]),
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xName),
    svg("text", { x: 0, y: 0, "text-anchor": "middle", transform: middle }, yName),
    svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
  ];
}

/** @param {NonNullable<Chart["bars"]>} bars @param {Places} places */
function columnsOf(bars, { px, py }) {
  return /** @type {const} */ (["benign", "malignant"]).flatMap((kind) =>
    bars[kind].flatMap((count, at) => {
      if (count === 0) return [];
      const [from, to] = [px(bars.edges[at]), px(bars.edges[at + 1])];
      const height = HEIGHT - BOTTOM - py(count);
      const width = Math.max(0.5, to - from - 0.5);
      return [svg("rect", { class: `bar-${kind}`, x: from, width, y: py(count), height })];
    }),
  );
}

/** Band, bars, lines and points. @param {Chart} chart @param {Places} places */
function marks({ band, bars, series = [], points = [] }, places) {
  const { px, py, path } = places;
  const back = band && path([...band.x].reverse(), [...band.high].reverse()).slice(1);
  return [
    ...(band ? [svg("path", { class: "area", d: `${path(band.x, band.low)}L${back}Z` })] : []),
    ...(bars ? columnsOf(bars, places) : []),
    ...series.map(({ kind, x, y }) => svg("path", { class: kind, d: path(x, y) })),
    ...points.flatMap(({ x, y, low, high, count }) => [
      svg("line", { class: "whisker", x1: px(x), x2: px(x), y1: py(low), y2: py(high) }),
      svg("circle", { class: "dot", cx: px(x), cy: py(y), r: Math.min(8, 2.5 + Math.sqrt(count) / 5) }),
    ]),
  ];
}

/** The chart's numbers. @param {Chart} chart */
function tableOf({ title, columns, rows }) {
  const cell = (/** @type {string | number} */ value) =>
    el("td", {}, typeof value === "number" ? number(value) : value);
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": title },
    el(
      "table",
      {},
      el("caption", { class: "visually-hidden" }, title),
      el("thead", {}, el("tr", {}, ...columns.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))),
    ),
  );
}

/** @param {Chart} chart @returns {HTMLElement} a figure */
export function draw(chart) {
  const { title, summary, series = [], bars } = chart;
  const places = placesOf(chart);
  const viewBox = `0 0 ${WIDTH} ${HEIGHT}`;
  const named = { class: "chart", viewBox, role: "img", "aria-label": summary, direction: "ltr" };
  const kinds = bars ? ["malignant", "benign"].map((kind) => [kind, t(`model.${kind}`)]) : [];
  const legend = [...series.map(({ name, kind }) => [kind, name]), ...kinds];
  const entry = (/** @type {string[]} */ [kind, name]) =>
    el("span", {}, el("i", { class: kind, "aria-hidden": "true" }), name);
  return el(
    "figure",
    { class: "card" },
    el("h3", {}, title),
    svg("svg", named, ...frame(chart, places), ...marks(chart, places)),
    el("p", { class: "legend-row" }, ...legend.map(entry)),
    el("details", {}, el("summary", {}, t("model.numbers")), tableOf(chart)),
  );
}

// @ts-check
/** Curves and bars as SVG, drawn from a report's numbers, each with a table of the same numbers. */

import { el, svg } from "../dom.js";
import { number, t } from "../i18n.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [400, 300, 58, 38, 10, 12];

/** @typedef {{name: string, kind: "line" | "second" | "reference", x: number[], y: number[]}} Series */
/**
 * @typedef {{
 *   title: string, summary: string, xName: string, yName: string, xRange: [number, number], yRange: [number, number],
 *   series?: Series[], band?: {x: number[], low: number[], high: number[]}, points?: {x: number, y: number, low: number, high: number, count: number}[],
 *   bars?: {edges: number[], malignant: number[], benign: number[]}, columns: string[], rows: (string | number)[][],
 * }} Chart
 */

/** Round numbers between two, about five. @param {number} low @param {number} high */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = (/** @type {number} */ ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999))) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, at) => (first + at) * step);
}

/** @param {Chart} chart @returns {HTMLElement} a figure */
export function draw(chart) {
  const { title, summary, xRange, yRange } = chart;
  const px = (/** @type {number} */ x) => LEFT + ((x - xRange[0]) / (xRange[1] - xRange[0])) * (WIDTH - LEFT - RIGHT);
  const py = (/** @type {number} */ y) => HEIGHT - BOTTOM - ((Math.min(yRange[1], Math.max(yRange[0], y)) - yRange[0]) / (yRange[1] - yRange[0])) * (HEIGHT - BOTTOM - TOP);
  const path = (/** @type {number[]} */ x, /** @type {number[]} */ y) => `M${x.map((value, at) => `${px(value).toFixed(1)} ${py(y[at]).toFixed(1)}`).join("L")}`;
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": summary, direction: "ltr" });
  for (const x of ticks(...xRange)) {
    drawing.append(
      svg("line", { class: "grid", x1: px(x), x2: px(x), y1: TOP, y2: HEIGHT - BOTTOM }),
      svg("text", { x: px(x), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, number(x)),
    );
  }
  for (const y of ticks(...yRange)) {
    drawing.append(
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y) }),
      svg("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, number(y)),
    );
  }
  drawing.append(
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, chart.xName),
    svg("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)` }, chart.yName),
    svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
  );
  const { band, bars } = chart;
  if (band) drawing.append(svg("path", { class: "area", d: `${path(band.x, band.low)}L${path([...band.x].reverse(), [...band.high].reverse()).slice(1)}Z` }));
  if (bars) {
    for (const kind of /** @type {const} */ (["benign", "malignant"])) {
      bars[kind].forEach((count, at) => {
        if (count === 0) return;
        const [from, to] = [px(bars.edges[at]), px(bars.edges[at + 1])];
        drawing.append(svg("rect", { class: `bar-${kind}`, x: from, width: Math.max(0.5, to - from - 0.5), y: py(count), height: HEIGHT - BOTTOM - py(count) }));
      });
    }
  }
  for (const { kind, x, y } of chart.series ?? []) drawing.append(svg("path", { class: kind, d: path(x, y) }));
  for (const { x, y, low, high, count } of chart.points ?? []) {
    drawing.append(
      svg("line", { class: "whisker", x1: px(x), x2: px(x), y1: py(low), y2: py(high) }),
      svg("circle", { class: "dot", cx: px(x), cy: py(y), r: Math.min(8, 2.5 + Math.sqrt(count) / 5) }),
    );
  }
  const legend = [...(chart.series ?? []).map(({ name, kind }) => [kind, name]), ...(bars ? [["malignant", t("model.malignant")], ["benign", t("model.benign")]] : [])];
  return el(
    "figure",
    { class: "card" },
    el("h3", {}, title),
    drawing,
    el("p", { class: "legend-row" }, ...legend.map(([kind, name]) => el("span", {}, el("i", { class: kind, "aria-hidden": "true" }), name))),
    el("details", {}, el("summary", {}, t("model.numbers")), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, el("table", {}, el("caption", { class: "visually-hidden" }, title), el("thead", {}, el("tr", {}, ...chart.columns.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...chart.rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, typeof cell === "number" ? number(cell) : cell)))))))),
  );
}

// @ts-check
/**
 * Contour lines on a grid, by marching squares, and a heatmap drawn with them: unlike colours, they leave the
 * skin's colour and structure visible.
 */

import { svg } from "../dom.js";

/** The alpha of the API's heatmap is proportional to its value; this is the alpha of 1. */
const PEAK_ALPHA = 200;
/** Denser at low values: the heatmap of a low estimate is low and has few lines. */
export const LEVELS = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8];
const SIDE = 64;
/** In crossed edges; shorter lines are artefacts of the heatmap's rounding. */
const SHORTEST = 8;

/** Lines from edge to edge of a cell; edges: 0 top, 1 right, 2 bottom, 3 left. @param {string} pairs */
const lines = (pairs) =>
  pairs.split(" ").map((pair) => /** @type {[from: number, to: number]} */ ([...pair].map(Number)));

/**
 * The line through a cell, indexed by its corners at or above the level: bits top left, top right, bottom
 * right, bottom left. Cells with none or all of them have no line; if two opposite corners are (5 and 10),
 * the value in the middle decides.
 */
const CASES = "- 30 01 31 12 - 02 32 23 20 - 21 13 10 03 -"
  .split(" ")
  .map((pair) => (pair === "-" ? [] : lines(pair)));
const AROUND_TOP_LEFT = lines("30 12");
const AROUND_TOP_RIGHT = lines("01 23");

/**
 * @param {ArrayLike<number>} values row by row
 * @param {number} width columns
 * @param {number} level
 * @returns {[x: number, y: number][][]} lines in columns and rows; a closed one ends at its first point
 */
export function isoLines(values, width, level) {
  const height = values.length / width;
  /** The edges connected to each crossed edge. @type {Map<number, number[]>} */
  const joined = new Map();
  const join = (/** @type {number} */ one, /** @type {number} */ other) => {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ]) {
      const known = joined.get(from);
      if (known) known.push(to);
      else joined.set(from, [to]);
    }
  };
  for (let y = 0; y + 1 < height; y += 1) {
    for (let x = 0; x + 1 < width; x += 1) {
      const edges = edgesOf(x, y, width);
      for (const [from, to] of segmentsOf(values, width, x, y, level)) join(edges[from], edges[to]);
    }
  }
  return chained(joined).map((line) => line.map((edge) => crossing(values, width, edge, level)));
}

/**
 * Numbers of a cell's four edges: even for horizontal, odd for vertical ones.
 *
 * @param {number} x
 * @param {number} y
 * @param {number} width
 */
const edgesOf = (x, y, width) => {
  const at = y * width + x;
  return [2 * at, 2 * (at + 1) + 1, 2 * (at + width), 2 * at + 1];
};

/**
 * @param {ArrayLike<number>} values
 * @param {number} width
 * @param {number} x
 * @param {number} y
 * @param {number} level
 */
function segmentsOf(values, width, x, y, level) {
  const at = y * width + x;
  const corners = [values[at], values[at + 1], values[at + width + 1], values[at + width]];
  const kind = corners.reduce((bits, value, bit) => bits | (value >= level ? 1 << bit : 0), 0);
  if (kind !== 5 && kind !== 10) return CASES[kind];
  const middle = (corners[0] + corners[1] + corners[2] + corners[3]) / 4 >= level;
  return (kind === 5) === middle ? AROUND_TOP_RIGHT : AROUND_TOP_LEFT;
}

/** Joins segments to lines, open ones starting at an end. @param {Map<number, number[]>} joined */
function chained(joined) {
  const seen = new Set();
  /** @param {number} start */
  const follow = (start) => {
    const line = [start];
    seen.add(start);
    for (let here = start; ;) {
      const next = joined.get(here)?.find((edge) => !seen.has(edge));
      if (next === undefined) break;
      line.push(next);
      seen.add(next);
      here = next;
    }
    const last = line[line.length - 1];
    if (line.length > 2 && joined.get(last)?.includes(start)) line.push(start);
    return line;
  };
  const edges = [...joined.keys()];
  const ends = edges.filter((edge) => joined.get(edge)?.length === 1);
  return [...ends, ...edges]
    .filter((edge) => !seen.has(edge))
    .flatMap((edge) => (seen.has(edge) ? [] : [follow(edge)]));
}

/**
 * The point on an edge where the value equals the level.
 *
 * @param {ArrayLike<number>} values
 * @param {number} width
 * @param {number} edge
 * @param {number} level
 * @returns {[x: number, y: number]}
 */
function crossing(values, width, edge, level) {
  const at = edge >> 1;
  const down = edge % 2 === 1;
  const [from, to] = [values[at], values[at + (down ? width : 1)]];
  const share = (level - from) / (to - from);
  const [x, y] = [at % width, Math.floor(at / width)];
  return down ? [x, y + share] : [x + share, y];
}

/** @param {HTMLImageElement} heatmap as the API drew it, loaded @returns {Float32Array} SIDE rows, 0..1 */
function valuesOf(heatmap) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return new Float32Array(SIDE * SIDE);
  context.imageSmoothingQuality = "high";
  context.drawImage(heatmap, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  return Float32Array.from({ length: SIDE * SIDE }, (_, at) => data[4 * at + 3] / PEAK_ALPHA);
}

/** @param {[x: number, y: number][]} line */
const pathOf = (line) =>
  line
    .map(([x, y], at) => `${at ? "L" : "M"}${((x + 0.5) / SIDE).toFixed(4)} ${((y + 0.5) / SIDE).toFixed(4)}`)
    .join("");

/**
 * A heatmap's lines, each with a halo, visible on light and on dark skin; higher levels are thicker.
 *
 * @param {HTMLImageElement} heatmap as the API drew it, loaded
 * @returns {SVGElement[]} for a drawing of 1 by 1
 */
export function drawn(heatmap) {
  const values = valuesOf(heatmap);
  const paths = LEVELS.map((level, step) => ({
    d: isoLines(values, SIDE, level)
      .filter((line) => line.length >= SHORTEST)
      .map(pathOf)
      .join(""),
    step,
    level,
  })).filter(({ d }) => d);
  return ["halo", "line"].flatMap((kind) =>
    paths.map(({ d, step, level }) => svg("path", { d, class: `${kind} step-${step}`, "data-level": level })),
  );
}

// @ts-check
/**
 * Corrects a lesion's outline: a dense closed line with a few handles. Points near a dragged handle move with
 * it, less so towards the next handle; the rest keeps its detail.
 */

import { SIDE, maskOf, shapeOf } from "./shape.js";

/** @typedef {import("./shape.js").Point} Point */
/** In millimetres and square millimetres, null if the file states no scale.
 * @typedef {{diameter_mm: number | null, area_mm2: number | null}} Millimetres */
/** In pixels of the image. @typedef {{x: number, y: number, width: number, height: number}} Region */

/** The measures of a shape. @type {readonly (keyof import("./shape.js").Shape)[]} */
export const MEASURES = ["area", "diameter", "asymmetry", "border"];
/** The measures that need a scale. @type {readonly (keyof Millimetres)[]} */
export const IN_MILLIMETRES = ["diameter_mm", "area_mm2"];
export const HANDLES = 24;
/** Points of the line per handle. */
const BETWEEN = 8;

/** @param {number} value */
const rounded = (value) => Math.round(value * 10) / 10;

/**
 * Resamples a closed line to HANDLES * BETWEEN evenly spaced points.
 *
 * @param {Point[]} line without repeating its start
 * @returns {Point[]}
 */
export function evenly(line) {
  const lengths = line.map(([x, y], at) => {
    const [toX, toY] = line[(at + 1) % line.length];
    return Math.hypot(toX - x, toY - y);
  });
  const step = lengths.reduce((sum, length) => sum + length, 0) / (HANDLES * BETWEEN);
  /** @type {Point[]} */
  const places = [];
  let [at, before] = [0, 0]; // length of the line before piece `at`
  for (let place = 0; place < HANDLES * BETWEEN; place++) {
    while (at < line.length - 1 && before + lengths[at] < place * step) before += lengths[at++];
    const share = lengths[at] > 0 ? (place * step - before) / lengths[at] : 0;
    const [[x, y], [toX, toY]] = [line[at], line[(at + 1) % line.length]];
    places.push([rounded(x + (toX - x) * share), rounded(y + (toY - y) * share)]);
  }
  return places;
}

/** @param {Point[]} places @param {number} handle @returns {Point} its position */
export const handleOf = (places, handle) => places[handle * BETWEEN];

/**
 * @param {Point[]} places
 * @param {number} handle that is dragged
 * @param {Point} to its new position; it stays inside the region
 * @param {Region} region
 * @returns {Point[]}
 */
export function pulled(places, handle, [toX, toY], { x, y, width, height }) {
  const [fromX, fromY] = handleOf(places, handle);
  const inside = (/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ size) =>
    rounded(Math.min(low + size, Math.max(low, value)));
  const [dx, dy] = [inside(toX, x, width) - fromX, inside(toY, y, height) - fromY];
  return places.map(([left, top], place) => {
    const away = Math.abs(place - handle * BETWEEN);
    const far = Math.min(away, places.length - away) / BETWEEN;
    const share = far < 1 ? (1 + Math.cos(Math.PI * far)) / 2 : 0;
    return [inside(left + share * dx, x, width), inside(top + share * dy, y, height)];
  });
}

/**
 * Measures an outline that was corrected by hand.
 *
 * @param {{region: Region, image: {pixel_spacing_mm?: [number, number] | null}}} assessment
 * @param {Point[]} points in pixels of the image
 * @returns {import("./shape.js").Shape & Millimetres}
 */
export function measured({ region, image }, points) {
  const { x, y, width, height } = region;
  const shape = shapeOf(maskOf(points.map(([left, top]) => [(left - x) / width, (top - y) / height])));
  const spacing = image.pixel_spacing_mm;
  return { ...shape, ...(spacing ? inMillimetres(shape.area, region, points, spacing) : UNKNOWN) };
}

const UNKNOWN = { diameter_mm: null, area_mm2: null };

/**
 * @param {number} area as a share of the region
 * @param {Region} region
 * @param {Point[]} points
 * @param {[number, number]} spacing millimetres between rows and between columns
 */
function inMillimetres(area, { width, height }, points, [down, across]) {
  let longest = 0;
  for (const [at, [x, y]] of points.entries()) {
    for (const [otherX, otherY] of points.slice(0, at))
      longest = Math.max(longest, Math.hypot((x - otherX) * across, (y - otherY) * down));
  }
  // plus one pixel of the grid, as in shapeOf
  const step = (Math.sqrt(across * down) * width) / SIDE;
  return { diameter_mm: longest + step, area_mm2: area * width * across * height * down };
}

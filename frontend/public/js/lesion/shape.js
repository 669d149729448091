// @ts-check
/**
 * Measures an outline that was corrected by hand. The definitions are those of the server
 * (aiderm_core.outline), which measures the model's outline.
 */

/** @typedef {[x: number, y: number]} Point */
/** @typedef {{area: number, diameter: number, asymmetry: number, border: number}} Shape */

/** Side, in pixels, of the grid on which shapes are measured. */
export const SIDE = 224;
const SMOOTHED = 7; // border pixels to average: the steps between pixels are longer than the border itself

/**
 * Mask of the pixels inside a closed line or on it.
 *
 * @param {Point[]} line in fractions of the square's side
 * @returns {Uint8Array} row by row, 1 inside
 */
export function maskOf(line) {
  const mask = new Uint8Array(SIDE * SIDE);
  const points = line.map(([x, y]) => [x * SIDE - 0.5, y * SIDE - 0.5]);
  const mark = (/** @type {number} */ x, /** @type {number} */ y) => {
    const [column, row] = [Math.round(x), Math.round(y)];
    if (column >= 0 && row >= 0 && column < SIDE && row < SIDE) mask[row * SIDE + column] = 1;
  };
  /** @type {number[][]} where the line crosses the middle of each row */
  const crossed = Array.from({ length: SIDE }, () => []);
  for (const [at, [x, y]] of points.entries()) {
    const [toX, toY] = points[(at + 1) % points.length];
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(toX - x, toY - y)));
    for (let step = 0; step < steps; step++)
      mark(x + ((toX - x) * step) / steps, y + ((toY - y) * step) / steps);
    const last = Math.min(SIDE, Math.ceil(Math.max(y, toY)));
    for (let row = Math.max(0, Math.ceil(Math.min(y, toY))); row < last; row++) {
      crossed[row].push(x + ((toX - x) * (row - y)) / (toY - y));
    }
  }
  for (const [row, found] of crossed.entries()) {
    found.sort((a, b) => a - b);
    for (let at = 0; at + 1 < found.length; at += 2) {
      const last = Math.min(SIDE - 1, Math.floor(found[at + 1]));
      for (let column = Math.max(0, Math.ceil(found[at])); column <= last; column++) mark(column, row);
    }
  }
  return mask;
}

/** @param {Uint8Array} mask of a single connected part, not empty @returns {Shape} */
export function shapeOf(mask) {
  const line = borderOf(mask);
  const area = mask.reduce((sum, inside) => sum + inside, 0);
  let longest = 0;
  for (const [at, [x, y]] of line.entries()) {
    for (let other = 0; other < at; other++)
      longest = Math.max(longest, Math.hypot(x - line[other][0], y - line[other][1]));
  }
  return {
    area: area / mask.length,
    diameter: Math.min((longest + 1) / SIDE, Math.SQRT2),
    asymmetry: asymmetryOf(mask),
    border: Math.max(1, smoothLength(line) ** 2 / (4 * Math.PI * area)),
  };
}

// clockwise from the right, with y pointing down
const AROUND = [
  [1, 0],
  [1, 1],
  [0, 1],
  [-1, 1],
  [-1, 0],
  [-1, -1],
  [0, -1],
  [1, -1],
];

/** The pixels of the outer border, in order. @param {Uint8Array} mask @returns {Point[]} */
function borderOf(mask) {
  const isIn = (/** @type {number} */ x, /** @type {number} */ y) =>
    x >= 0 && y >= 0 && x < SIDE && y < SIDE && mask[y * SIDE + x] === 1;
  const first = mask.indexOf(1);
  let [x, y] = [first % SIDE, Math.floor(first / SIDE)];
  /** @type {Point[]} */
  const line = [[x, y]];
  const seen = new Set();
  let came = 0; // no pixel lies above the first one, or left of it in its row
  for (;;) {
    const begin = 6 - (came % 2); // start from a neighbour known to be outside
    const turn = [0, 1, 2, 3, 4, 5, 6, 7].find((step) => {
      const [dx, dy] = AROUND[(came + begin + step) % 8];
      return isIn(x + dx, y + dy);
    });
    if (turn === undefined) return line; // a single pixel
    came = (came + begin + turn) % 8;
    const step = (y * SIDE + x) * 8 + came;
    if (seen.has(step)) return line.slice(0, -1);
    seen.add(step);
    [x, y] = [x + AROUND[came][0], y + AROUND[came][1]];
    line.push([x, y]);
  }
}

/** @param {Point[]} line */
function smoothLength(line) {
  const width = Math.min(SMOOTHED, line.length);
  const smooth = line.map((_, at) => {
    let [sumX, sumY] = [0, 0];
    for (let step = 0; step < width; step++) {
      const [x, y] = line[(at + step) % line.length];
      [sumX, sumY] = [sumX + x, sumY + y];
    }
    return [sumX / width, sumY / width];
  });
  const length = smooth.reduce((sum, [x, y], at) => {
    const [toX, toY] = smooth[(at + 1) % smooth.length];
    return sum + Math.hypot(toX - x, toY - y);
  }, 0);
  return length + Math.PI; // half a pixel outwards all around
}

/** Share without a counterpart when mirrored at the principal axes. @param {Uint8Array} mask */
function asymmetryOf(mask) {
  let [count, sumX, sumY, xx, xy, yy] = [0, 0, 0, 0, 0, 0];
  mask.forEach((inside, at) => {
    if (!inside) return;
    const [x, y] = [at % SIDE, Math.floor(at / SIDE)];
    [count, sumX, sumY] = [count + 1, sumX + x, sumY + y];
    [xx, xy, yy] = [xx + x * x, xy + x * y, yy + y * y];
  });
  const [x0, y0] = [sumX / count, sumY / count];
  const angle = Math.atan2(2 * (xy / count - x0 * y0), xx / count - x0 * x0 - (yy / count - y0 * y0)) / 2;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const at = (/** @type {number} */ x, /** @type {number} */ y) =>
    x < 0 || y < 0 || x >= SIDE || y >= SIDE ? 0 : mask[y * SIDE + x];
  // rotated to align the axes with the square, the centroid in its centre; linear interpolation
  const size = 2 * SIDE;
  const straight = new Uint8Array(size * size);
  let area = 0;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const [across, down] = [column - SIDE + 0.5, row - SIDE + 0.5];
      const [x, y] = [x0 + cos * across - sin * down, y0 + sin * across + cos * down];
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const [right, below] = [x - left, y - top];
      const value =
        (1 - below) * ((1 - right) * at(left, top) + right * at(left + 1, top)) +
        below * ((1 - right) * at(left, top + 1) + right * at(left + 1, top + 1));
      if (value <= 0.5) continue;
      straight[row * size + column] = 1;
      area += 1;
    }
  }
  let alone = 0;
  straight.forEach((inside, place) => {
    if (!inside) return;
    const [column, row] = [place % size, Math.floor(place / size)];
    alone += Number(!straight[(size - 1 - row) * size + column]);
    alone += Number(!straight[row * size + size - 1 - column]);
  });
  return alone / 2 / Math.max(1, area);
}

// @ts-check
/** Measures brightness and sharpness as the server does, before anything is sent. */

const SIDE = 224; // the server measures at this size, so that cameras are comparable
/** Close to the server's limits (see the model's manifest). Below them the page advises, never refuses. */
export const DARK = 0.3;
export const BLURRED = 6.2;

const canvas = document.createElement("canvas");

/**
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 * @returns {{brightness: number, sharpness: number}} mean luminance 0..1, and variance of its Laplacian on
 *   0..255, inside the central disc of the largest centred square
 */
export function look(source, width, height) {
  const side = Math.min(width, height);
  canvas.width = canvas.height = SIDE;
  const context = /** @type {CanvasRenderingContext2D} */ (
    canvas.getContext("2d", { willReadFrequently: true })
  );
  context.imageSmoothingQuality = "high";
  context.drawImage(source, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  const { data } = context.getImageData(0, 0, SIDE, SIDE);
  const luminance = new Float32Array(SIDE * SIDE);
  for (let at = 0; at < luminance.length; at += 1) {
    luminance[at] = 0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2];
  }
  let count = 0;
  let sum = 0;
  let edges = 0;
  let squares = 0;
  for (let y = 1; y < SIDE - 1; y += 1) {
    for (let x = 1; x < SIDE - 1; x += 1) {
      if ((x - SIDE / 2) ** 2 + (y - SIDE / 2) ** 2 > (SIDE / 2) ** 2) continue;
      const at = y * SIDE + x;
      const edge =
        luminance[at - 1] +
        luminance[at + 1] +
        luminance[at - SIDE] +
        luminance[at + SIDE] -
        4 * luminance[at];
      count += 1;
      sum += luminance[at];
      edges += edge;
      squares += edge * edge;
    }
  }
  return { brightness: sum / count / 255, sharpness: squares / count - (edges / count) ** 2 };
}

const THUMBNAIL = 112;

/**
 * @param {ImageBitmap} bitmap
 * @returns {string} address of a small copy of its central square
 */
export function thumbnail(bitmap) {
  const side = Math.min(bitmap.width, bitmap.height);
  const small = document.createElement("canvas");
  small.width = small.height = THUMBNAIL;
  const context = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
  context.imageSmoothingQuality = "high";
  const [x, y] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  context.drawImage(bitmap, x, y, side, side, 0, 0, THUMBNAIL, THUMBNAIL);
  return small.toDataURL("image/jpeg", 0.85);
}

/**
 * @param {{brightness: number, sharpness: number}} measures
 * @returns {("dark" | "blurred")[]} reasons to try again
 */
export function concerns({ brightness, sharpness }) {
  return [
    ...(brightness < DARK ? [/** @type {const} */ ("dark")] : []),
    ...(sharpness < BLURRED ? [/** @type {const} */ ("blurred")] : []),
  ];
}

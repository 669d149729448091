// @ts-check
/** Decoding a picture in the page, to show, to measure and to cut it. */

import { typeOf } from "./types.js";

/**
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>} upright; rejects where it cannot be shown here
 */
export async function bitmapOf(file) {
  try {
    return await createImageBitmap(file);
  } catch (error) {
    if ((await typeOf(file)) !== "image/tiff") throw error;
    const { tiffBitmap } = await import("./tiff-image.js");
    return tiffBitmap(file);
  }
}

/** Whether the browser itself shows it. @param {Blob} file */
export const isShown = async (file) =>
  (await typeOf(file)) !== "image/tiff" ||
  createImageBitmap(file).then(
    (bitmap) => {
      bitmap.close();
      return true;
    },
    () => false,
  );

/** Of a JPEG that the page makes; benchmarks/page/reencoding.py measures what it does to the answers. */
const QUALITY = 0.95;

/**
 * Every picture that the page itself makes is encoded here.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {"image/png" | "image/jpeg"} type
 * @returns {Promise<Blob | null>} null where the memory does not suffice
 */
export const encoded = (canvas, type) => new Promise((resolve) => canvas.toBlob(resolve, type, QUALITY));

/**
 * @param {ImageBitmap} bitmap
 * @param {number} [side] pixels that the longer side may have at most
 * @returns {Promise<Blob>} the same picture in a format that every browser shows, without loss
 */
export async function asPng(bitmap, side = Infinity) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await encoded(canvas, "image/png");
  if (!blob) throw new Error("it could not be encoded");
  return blob;
}

const COPY_SIDE = 2000; // pixels; the model sees 224

/**
 * @param {File} file that is too large to be sent
 * @param {number} [side] pixels
 * @returns {Promise<File>} the whole picture with at most so many pixels a side, without loss
 */
export async function smallerCopy(file, side = COPY_SIDE) {
  const bitmap = await bitmapOf(file);
  const blob = await asPng(bitmap, side);
  bitmap.close();
  return new File([blob], file.name.replace(/\.\w+$/, "") + ".png", { type: "image/png" });
}

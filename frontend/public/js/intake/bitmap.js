// @ts-check
/** Decodes pictures in the page, to show, measure and crop them. */

import { DICOM, typeOf } from "./types.js";

/** Decoders for formats that some or all browsers cannot show. */
const OWN = /** @type {Record<string, (file: Blob) => Promise<ImageBitmap>>} */ ({
  "image/tiff": (file) => import("./tiff-image.js").then(({ tiffBitmap }) => tiffBitmap(file)),
  [DICOM]: (file) => import("./formats/dicom-image.js").then(({ dicomBitmap }) => dicomBitmap(file)),
});

/**
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>} upright; rejects if it cannot be shown here
 */
export async function bitmapOf(file) {
  try {
    return await createImageBitmap(file);
  } catch (error) {
    const own = OWN[await typeOf(file)];
    if (!own) throw error;
    return own(file);
  }
}

/** Whether the browser itself can show it. @param {Blob} file */
export const isShown = async (file) =>
  !((await typeOf(file)) in OWN) ||
  createImageBitmap(file).then(
    (bitmap) => {
      bitmap.close();
      return true;
    },
    () => false,
  );

/** Of the JPEGs that the page makes; benchmarks/page/reencoding.py measures its effect on the answers. */
const QUALITY = 0.95;

/**
 * Encodes every picture that the page makes.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {"image/png" | "image/jpeg"} type
 * @returns {Promise<Blob | null>} null if memory runs out
 */
export const encoded = (canvas, type) => new Promise((resolve) => canvas.toBlob(resolve, type, QUALITY));

/**
 * @param {ImageBitmap} bitmap
 * @param {number} [side] maximum length of the longer side, in pixels
 * @returns {Promise<Blob>} the same picture, losslessly, in a format that every browser shows
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

/** The file, in a format that the browser can show. @param {Blob} file @returns {Promise<Blob>} */
export async function shownOf(file) {
  if (await isShown(file)) return file;
  const bitmap = await bitmapOf(file);
  const shown = await asPng(bitmap);
  bitmap.close();
  return shown;
}

const COPY_SIDE = 2000; // pixels; the model sees 224

/**
 * @param {File} file too large to send
 * @param {number} [side] maximum length of the longer side, in pixels
 * @returns {Promise<File>} the whole picture, scaled down, losslessly encoded
 */
export async function smallerCopy(file, side = COPY_SIDE) {
  if ((await typeOf(file)) === DICOM) throw new TypeError("a copy would lose its scale and its profile");
  const bitmap = await bitmapOf(file);
  const blob = await asPng(bitmap, side);
  bitmap.close();
  return new File([blob], file.name.replace(/\.\w+$/, "") + ".png", { type: "image/png" });
}

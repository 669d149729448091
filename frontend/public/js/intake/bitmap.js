// @ts-check
/** Decoding a picture in the page, to show, to measure and to cut it. */

import { DICOM, typeOf } from "./types.js";

/** Kinds of files that some browsers, or all, do not show by themselves. */
const OWN = /** @type {Record<string, (file: Blob) => Promise<ImageBitmap>>} */ ({
  "image/tiff": (file) => import("./tiff-image.js").then(({ tiffBitmap }) => tiffBitmap(file)),
  [DICOM]: (file) => import("./formats/dicom-image.js").then(({ dicomBitmap }) => dicomBitmap(file)),
});

/**
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>} upright; rejects where it cannot be shown here
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

/** Whether the browser itself shows it. @param {Blob} file */
export const isShown = async (file) =>
  !((await typeOf(file)) in OWN) ||
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

/** What the browser itself shows of a file. @param {Blob} file @returns {Promise<Blob>} */
export async function shownOf(file) {
  if (await isShown(file)) return file;
  const bitmap = await bitmapOf(file);
  const shown = await asPng(bitmap);
  bitmap.close();
  return shown;
}

const COPY_SIDE = 2000; // pixels; the model sees 224

/**
 * @param {File} file that is too large to be sent
 * @param {number} [side] pixels
 * @returns {Promise<File>} the whole picture with at most so many pixels a side, without loss
 */
export async function smallerCopy(file, side = COPY_SIDE) {
  if ((await typeOf(file)) === DICOM) throw new TypeError("a copy would lose its scale and its profile");
  const bitmap = await bitmapOf(file);
  const blob = await asPng(bitmap, side);
  bitmap.close();
  return new File([blob], file.name.replace(/\.\w+$/, "") + ".png", { type: "image/png" });
}

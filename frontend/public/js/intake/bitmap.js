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

/**
 * @param {ImageBitmap} bitmap
 * @returns {Promise<Blob>} the same picture in a format that every browser shows
 */
export async function asPng(bitmap) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("it could not be encoded"))),
      "image/png",
    );
  });
}

const COPY_SIDE = 2000; // pixels; the model sees 224

/**
 * @param {File} file that is too large to be sent
 * @returns {Promise<File>} the whole picture with at most 2,000 pixels a side, without loss
 */
export async function smallerCopy(file) {
  const bitmap = await bitmapOf(file);
  const scale = Math.min(1, COPY_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  /** @type {Blob | null} */
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error("it could not be encoded");
  return new File([blob], file.name.replace(/\.\w+$/, "") + ".png", { type: "image/png" });
}

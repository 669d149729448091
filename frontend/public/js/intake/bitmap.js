// @ts-check
/** Decoding a picture in the page, to show, to measure and to cut it. */

/**
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>} upright; rejects where it cannot be shown here
 */
export const bitmapOf = (file) => createImageBitmap(file);

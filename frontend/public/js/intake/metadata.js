// @ts-check
/**
 * Removes metadata from a file without re-encoding it. Each format has a list of what may stay: pixels,
 * orientation, and what colours are computed from. Everything else is removed, whatever it is.
 */

import { bmpParts } from "./formats/bmp.js";
import { dicomParts } from "./formats/dicom.js";
import { gifParts } from "./formats/gif.js";
import { jpegParts } from "./formats/jpeg.js";
import { joined } from "./formats/parts.js";
import { pngParts } from "./formats/png.js";
import { tiffParts } from "./formats/tiff.js";
import { webpParts } from "./formats/webp.js";
import { typeOf } from "./types.js";

/** @typedef {import("./formats/parts.js").Part} Part */

/** @type {Record<string, (bytes: Uint8Array) => Part[] | Promise<Part[]>>} */
const FORMATS = {
  "application/dicom": dicomParts,
  "image/bmp": bmpParts,
  "image/gif": gifParts,
  "image/jpeg": jpegParts,
  "image/png": pngParts,
  "image/tiff": tiffParts,
  "image/webp": webpParts,
};
const SHORTEST = 16; // bytes that identify the format

/**
 * @param {File} file in one of the formats that are assessed
 * @returns {Promise<File>} the same file if there was nothing to remove
 */
export async function withoutMetadata(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const partsOf = FORMATS[await typeOf(file)];
  if (!partsOf) throw new TypeError(`a picture of ${Object.keys(FORMATS).join(", ")} was expected`);
  /** @type {Part[]} */
  let parts;
  try {
    parts = await partsOf(bytes);
  } catch {
    parts = []; // truncated in its header
  }
  const size = parts.reduce((sum, part) => sum + (Array.isArray(part) ? part[1] - part[0] : part.length), 0);
  // so that the server reports what is wrong
  if (size < SHORTEST) parts = [[0, Math.min(SHORTEST, bytes.length)]];
  const kept = joined(parts.map((part) => (Array.isArray(part) ? bytes.subarray(part[0], part[1]) : part)));
  const unchanged = kept.length === bytes.length && kept.every((byte, at) => byte === bytes[at]);
  return unchanged ? file : new File([kept], file.name, { type: file.type });
}

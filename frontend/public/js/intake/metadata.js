// @ts-check
/**
 * Takes place, device and time out of a picture file without encoding it anew: orientation, colour profile
 * and pixels stay.
 */

import { gifParts, jpegParts, pngParts, tiffParts, webpParts } from "./containers.js";

/** @typedef {import("./containers.js").Part} Part */

/** @type {{starts: (head: string) => boolean, parts: (bytes: Uint8Array) => Part[]}[]} */
const FORMATS = [
  { starts: (head) => head.startsWith("\xff\xd8\xff"), parts: jpegParts },
  { starts: (head) => head.startsWith("\x89PNG\r\n\x1a\n"), parts: pngParts },
  { starts: (head) => head.startsWith("RIFF") && head.slice(8, 12) === "WEBP", parts: webpParts },
  { starts: (head) => head.startsWith("GIF8"), parts: gifParts },
  { starts: (head) => head.startsWith("II*\0") || head.startsWith("MM\0*"), parts: tiffParts },
];

/**
 * @param {Uint8Array} bytes of a whole file
 * @returns {Part[] | null} what to keep of it; null for a format that holds nothing of the kind (BMP) or is
 *   none that is judged
 */
export function pictureParts(bytes) {
  const head = String.fromCharCode(...bytes.subarray(0, 12));
  return FORMATS.find(({ starts }) => starts(head))?.parts(bytes) ?? null;
}

/**
 * @param {File} file
 * @returns {Promise<File>} the same file when there was nothing to take out
 */
export async function withoutMetadata(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let parts;
  try {
    parts = pictureParts(bytes);
  } catch {
    parts = null; // cut off in the middle of a structure: the server says what is wrong with it
  }
  if (!parts || (parts.length === 1 && Array.isArray(parts[0]) && parts[0][1] === bytes.length)) return file;
  const kept = parts.map((part) => (Array.isArray(part) ? bytes.subarray(part[0], part[1]) : part));
  return new File(/** @type {BlobPart[]} */ (kept), file.name, { type: file.type });
}

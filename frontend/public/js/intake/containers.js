// @ts-check
/**
 * What of a file is picture, by format: lists of the parts to keep, each a range of the file or new bytes.
 * Pixels are never touched.
 */

import { orientationBlock, orientationOf } from "./orientation.js";

/** @typedef {[number, number] | Uint8Array} Part */

const latin = (/** @type {Uint8Array} */ bytes, /** @type {number} */ from, /** @type {number} */ length) =>
  String.fromCharCode(...bytes.subarray(from, from + length));

/** @param {Part[]} parts @param {number} from @param {number} to ranges that meet become one */
function keep(parts, from, to) {
  const last = parts.at(-1);
  if (Array.isArray(last) && last[1] === from) last[1] = to;
  else if (to > from) parts.push([from, to]);
}

/**
 * JPEG: of the application segments only JFIF, the colour profile and Adobe's colour transform stay; of EXIF
 * the
 * orientation. What stands behind the end of the picture (films, depth maps, second pictures) goes.
 *
 * @param {Uint8Array} bytes
 * @returns {Part[]}
 */
export function jpegParts(bytes) {
  /** @type {Part[]} */
  const parts = [[0, 2]];
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker === 0xff || marker === 0x01) {
      keep(parts, at, (at += marker === 0xff ? 1 : 2));
      continue;
    }
    if (marker === 0xd9) break;
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    // cut off or damaged: the rest goes as it is, for the server to judge
    if (end < at + 4 || end > bytes.length) break;
    const exif = marker === 0xe1 && latin(bytes, at + 4, 6) === "Exif\0\0";
    const orientation = exif ? orientationOf(bytes.subarray(at + 10, end)) : 1;
    if (orientation !== 1) {
      parts.push(
        Uint8Array.of(0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, ...orientationBlock(orientation)),
      );
    } else if (belongsToJpeg(bytes, at, marker)) {
      keep(parts, at, end);
    }
    at = end;
    if (marker !== 0xda) continue;
    do at = bytes.indexOf(0xff, at + 1);
    while (
      at >= 0 &&
      at + 1 < bytes.length &&
      (bytes[at + 1] === 0 || bytes[at + 1] === 0xff || (bytes[at + 1] & 0xf8) === 0xd0)
    );
    if (at < 0) at = bytes.length;
    keep(parts, end, at);
  }
  keep(parts, at, bytes[at] === 0xff && bytes[at + 1] === 0xd9 ? at + 2 : bytes.length);
  return parts;
}

/** @param {Uint8Array} bytes @param {number} at @param {number} marker */
function belongsToJpeg(bytes, at, marker) {
  if (marker === 0xe0) return latin(bytes, at + 4, 5) === "JFIF\0";
  if (marker === 0xe2) return latin(bytes, at + 4, 12) === "ICC_PROFILE\0";
  if (marker === 0xee) return latin(bytes, at + 4, 5) === "Adobe";
  return marker !== 0xfe && (marker & 0xf0) !== 0xe0;
}

const PNG_CHUNKS = new Set(
  "IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs sPLT acTL fcTL fdAT".split(
    " ",
  ),
);

/**
 * PNG: pixels and colours stay, of EXIF the orientation; texts, times and what follows the end go.
 *
 * @param {Uint8Array} bytes
 * @returns {Part[]}
 */
export function pngParts(bytes) {
  /** @type {Part[]} */
  const parts = [[0, 8]];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 8;
  for (let name = ""; name !== "IEND" && at + 12 <= bytes.length;) {
    const end = at + 12 + view.getUint32(at);
    if (end > bytes.length) break;
    name = latin(bytes, at + 4, 4);
    if (PNG_CHUNKS.has(name)) keep(parts, at, end);
    const orientation = name === "eXIf" ? orientationOf(bytes.subarray(at + 8, end - 4)) : 1;
    if (orientation !== 1) parts.push(pngChunk("eXIf", orientationBlock(orientation)));
    at = end;
    if (name === "IEND") return parts;
  }
  keep(parts, at, bytes.length);
  return parts;
}

/** @param {string} name @param {Uint8Array} content */
function pngChunk(name, content) {
  const chunk = new Uint8Array(content.length + 12);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  for (let index = 0; index < 4; index += 1) chunk[4 + index] = name.charCodeAt(index);
  chunk.set(content, 8);
  view.setUint32(content.length + 8, crc32(chunk.subarray(4, content.length + 8)));
  return chunk;
}

/** PNG's check sum (ISO 3309). @param {Uint8Array} bytes */
function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

const WEBP_CHUNKS = new Set(["VP8X", "VP8 ", "VP8L", "ALPH", "ANIM", "ANMF", "ICCP"]);

/**
 * WebP: as PNG. The header's length and its flags are written anew.
 *
 * @param {Uint8Array} bytes
 * @returns {Part[]}
 */
export function webpParts(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = bytes.slice(0, 12);
  /** @type {Part[]} */
  const parts = [header];
  let at = 12;
  let change = 0; // of the length that the header names
  while (at + 8 <= bytes.length) {
    const name = latin(bytes, at, 4);
    const end = at + 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) & 1);
    if (end > bytes.length) break;
    const orientation =
      name === "EXIF"
        ? orientationOf(bytes.subarray(at + (latin(bytes, at + 8, 4) === "Exif" ? 14 : 8), end))
        : 1;
    if (name === "VP8X") {
      const chunk = bytes.slice(at, end);
      chunk[8] &= ~0x0c; // neither EXIF nor XMP, unless one follows
      parts.push(chunk);
    } else if (WEBP_CHUNKS.has(name)) {
      keep(parts, at, end);
    } else {
      change -= end - at;
    }
    if (orientation !== 1) {
      const flags = parts[1];
      if (flags instanceof Uint8Array) flags[8] |= 0x08;
      parts.push(Uint8Array.of(0x45, 0x58, 0x49, 0x46, 26, 0, 0, 0, ...orientationBlock(orientation)));
      change += 34;
    }
    at = end;
  }
  keep(parts, at, bytes.length);
  new DataView(header.buffer).setUint32(4, view.getUint32(4, true) + change, true);
  return parts;
}

/**
 * GIF: comments and application blocks go, but for the loop and the colour profile.
 *
 * @param {Uint8Array} bytes
 * @returns {Part[]}
 */
export function gifParts(bytes) {
  const table = (/** @type {number} */ flags) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  const skipBlocks = (/** @type {number} */ from) => {
    while (from < bytes.length && bytes[from] !== 0) from += bytes[from] + 1;
    return from + 1;
  };
  let at = 13 + table(bytes[10]);
  /** @type {Part[]} */
  const parts = [[0, Math.min(at, bytes.length)]];
  while (at < bytes.length && (bytes[at] === 0x21 || bytes[at] === 0x2c)) {
    const image = bytes[at] === 0x2c;
    const end = Math.min(skipBlocks(image ? at + 11 + table(bytes[at + 9]) : at + 2), bytes.length);
    const application = bytes[at + 1] === 0xff ? latin(bytes, at + 3, 11) : "";
    if (image || bytes[at + 1] === 0xf9 || ["NETSCAPE2.0", "ICCRGBG1012"].includes(application))
      keep(parts, at, end);
    at = end;
  }
  keep(parts, at, bytes[at] === 0x3b ? at + 1 : bytes.length);
  return parts;
}

// description, make, model, software, date, artist, host, XMP, IPTC, Photoshop, EXIF, GPS, copyright, owner,
// serial numbers, unique id
const TIFF_PRIVATE = new Set([
  270, 271, 272, 305, 306, 315, 316, 700, 33723, 34377, 34665, 34853, 33432, 42016, 42032, 42033, 42036,
  42037, 50735, 50827, 50708,
]);
const TIFF_SIZES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];

/**
 * TIFF: entries that tell of place, device, person or time are taken from the directories, their values
 * overwritten with zeros.
 *
 * @param {Uint8Array} bytes
 * @returns {Part[]}
 */
export function tiffParts(bytes) {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const little = view.getUint16(0) === 0x4949;
  const seen = new Set();
  /** @param {number} at @param {boolean} whole a directory whose every entry goes */
  const clean = (at, whole) => {
    while (at > 0 && at + 6 <= copy.length && !seen.has(at) && seen.size < 64) {
      seen.add(at);
      const count = view.getUint16(at, little);
      const end = at + 2 + count * 12;
      if (end + 4 > copy.length) return;
      let kept = at + 2;
      for (let entry = at + 2; entry < end; entry += 12) {
        const tag = view.getUint16(entry, little);
        if (!whole && !TIFF_PRIVATE.has(tag)) {
          copy.copyWithin(kept, entry, entry + 12);
          kept += 12;
          continue;
        }
        const size = (TIFF_SIZES[view.getUint16(entry + 2, little)] ?? 1) * view.getUint32(entry + 4, little);
        const value = view.getUint32(entry + 8, little);
        if (tag === 34665 || tag === 34853 || tag === 40965) clean(value, true);
        else if (size > 4 && value > 7) copy.fill(0, value, Math.min(copy.length, value + size));
      }
      const next = view.getUint32(end, little);
      copy.fill(0, kept, end + 4);
      view.setUint16(at, (kept - at - 2) / 12, little);
      view.setUint32(kept, whole ? 0 : next, little);
      at = whole ? 0 : next;
    }
  };
  clean(view.getUint32(4, little), false);
  return [copy];
}

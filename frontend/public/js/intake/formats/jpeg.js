// @ts-check
/**
 * JPEG (ITU-T T.81): keeps frame, tables, scans, colour profile, Adobe's colour transform and orientation.
 */

import { orientationBlock, orientationOf } from "../orientation.js";
import { plainProfile } from "./icc.js";
import { joined, keep, latin } from "./parts.js";

/** @typedef {import("./parts.js").Part} Part */

const END = 0xd9;
const SCAN = 0xda;
const JFIF = 18; // bytes of its segment before the thumbnail
const ICC = "ICC_PROFILE\0";
const ICC_HEAD = 4 + ICC.length + 2; // marker, length, name, index of the piece, number of pieces
/** SOF, DHT, DAC, RST, SOI, SOS, DQT, DNL, DRI, DHP, EXP. @param {number} marker */
const isStructure = (marker) => marker >= 0xc0 && marker <= 0xdf && marker !== 0xc8;

/**
 * Drops whatever follows the end of the picture (films, depth maps, second pictures).
 *
 * @param {Uint8Array} bytes
 * @returns {Part[]}
 */
export function jpegParts(bytes) {
  /** @type {Part[]} */
  const parts = [[0, 2]];
  /** @type {[number, number][]} */
  const profile = [];
  let place = 1; // index of the profile among the parts
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== END) {
    const marker = bytes[at + 1];
    if (marker === 0xff || marker === 0x01) {
      at += marker === 0xff ? 1 : 2; // fill bytes
      continue;
    }
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    if (end < at + 4 || end > bytes.length) return withProfile(parts, bytes, profile, place); // truncated
    if (marker === 0xe0 && latin(bytes, at + 4, 5) === "JFIF\0" && end - at >= 18) {
      parts.push(plainJfif(bytes.subarray(at, at + 18)));
      place = parts.length;
    } else if (marker === 0xe1 && latin(bytes, at + 4, 6) === "Exif\0\0") {
      const orientation = orientationOf(bytes.subarray(at + 10, end));
      if (orientation !== 1) parts.push(exifOf(orientation));
    } else if (marker === 0xe2 && latin(bytes, at + 4, 12) === ICC) profile.push([at, end]);
    else if (marker === 0xee && latin(bytes, at + 4, 5) === "Adobe" && end - at >= 16) {
      parts.push(Uint8Array.of(0xff, 0xee, 0, 14, ...bytes.subarray(at + 4, at + 16)));
    } else if (isStructure(marker)) keep(parts, at, end);
    at = marker === SCAN ? endOfScan(bytes, end) : end;
    if (marker === SCAN) keep(parts, end, at);
  }
  if (bytes[at] === 0xff && bytes[at + 1] === END) keep(parts, at, at + 2);
  return withProfile(parts, bytes, profile, place);
}

/** The position of the next marker outside the scan. @param {Uint8Array} bytes @param {number} at */
function endOfScan(bytes, at) {
  for (let next = bytes.indexOf(0xff, at); next >= 0; next = bytes.indexOf(0xff, next + 1)) {
    const marker = bytes[next + 1];
    if (marker !== undefined && marker !== 0 && marker !== 0xff && (marker & 0xf8) !== 0xd0) return next;
  }
  return bytes.length;
}

/** A JFIF segment without its thumbnail. @param {Uint8Array} segment its first 18 bytes */
function plainJfif(segment) {
  const plain = segment.slice();
  plain.set([0, 16], 2);
  plain.set([0, 0], 16);
  return plain;
}

/** @param {number} orientation */
const exifOf = (orientation) =>
  Uint8Array.of(0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, ...orientationBlock(orientation));

/**
 * Inserts the cleaned profile among the parts; leaves out a damaged one.
 *
 * @param {Part[]} parts
 * @param {Uint8Array} bytes
 * @param {[number, number][]} segments with pieces of it
 * @param {number} place
 */
function withProfile(parts, bytes, segments, place) {
  const pieces = segments.map(([from, to]) => bytes.slice(from, to));
  const ordered = [...pieces].sort((one, other) => one[ICC_HEAD - 2] - other[ICC_HEAD - 2]);
  const whole = ordered.every(
    (piece, at) => piece[ICC_HEAD - 2] === at + 1 && piece[ICC_HEAD - 1] === pieces.length,
  );
  const plain =
    whole && pieces.length > 0 && plainProfile(joined(ordered.map((piece) => piece.subarray(ICC_HEAD))));
  if (!plain) return parts;
  let at = 0;
  for (const piece of ordered) {
    const size = piece.length - ICC_HEAD;
    piece.set(plain.subarray(at, at + size), ICC_HEAD);
    at += size;
  }
  parts.splice(place, 0, ...ordered);
  return parts;
}

/**
 * Zeroes the metadata segments of a JPEG stream inside another file, but not those on how its colours are
 * stored. Its length does not change.
 *
 * @param {Uint8Array} bytes modified in place
 */
export function blankJpeg(bytes) {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== SCAN;) {
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    const adobe = bytes[at + 1] === 0xee && latin(bytes, at + 4, 5) === "Adobe";
    const jfif = bytes[at + 1] === 0xe0 && latin(bytes, at + 4, 5) === "JFIF\0";
    const from = at + (jfif ? JFIF : 4); // without its thumbnail
    if (!isStructure(bytes[at + 1]) && !adobe)
      bytes.fill(0, Math.min(from, end), Math.min(end, bytes.length));
    at = end;
  }
}

// @ts-check
/**
 * WebP (RFC 9649): keeps pixels, colour profile and EXIF orientation, and rewrites the header.
 */

import { orientationBlock, orientationOf } from "../orientation.js";
import { plainProfile } from "./icc.js";
import { keep, latin, viewOf } from "./parts.js";

/** @typedef {import("./parts.js").Part} Part */

const KEPT = new Set(["VP8 ", "VP8L", "ALPH", "ANIM", "ANMF"]);
const FLAG_ICC = 0x20;
const FLAG_EXIF = 0x08;
const FLAG_XMP = 0x04;

/** @param {Uint8Array} bytes @returns {Part[]} */
export function webpParts(bytes) {
  const view = viewOf(bytes);
  const header = bytes.slice(0, 12);
  /** @type {Part[]} */
  const parts = [header];
  /** @type {Uint8Array | null} */
  let extended = null;
  const declared = view.getUint32(4, true) + 8;
  const last = Math.min(bytes.length, declared);
  let size = 4; // as counted in the header
  for (let at = 12; at + 8 <= last;) {
    const name = latin(bytes, at, 4);
    const length = view.getUint32(at + 4, true);
    const end = at + 8 + length + (length & 1);
    if (name === "VP8X" && end <= last) {
      extended = bytes.slice(at, at + 18);
      extended[8] &= ~(FLAG_ICC | FLAG_EXIF | FLAG_XMP);
      parts.push(extended);
      size += 18;
    } else if (KEPT.has(name)) {
      keep(parts, at, Math.min(end, last)); // a truncated one is left to the server
      size += end - at;
    } else if (name === "ICCP" && extended && end <= last) {
      const plain = plainProfile(bytes.subarray(at + 8, at + 8 + length));
      if (plain) {
        parts.push(bytes.slice(at, at + 8), plain, new Uint8Array(length & 1));
        extended[8] |= FLAG_ICC;
        size += end - at;
      }
    } else if (name === "EXIF" && extended && end <= last) {
      const prefix = latin(bytes, at + 8, 4) === "Exif" ? 6 : 0;
      const orientation = orientationOf(bytes.subarray(at + 8 + prefix, end));
      if (orientation !== 1) {
        parts.push(Uint8Array.of(0x45, 0x58, 0x49, 0x46, 26, 0, 0, 0, ...orientationBlock(orientation)));
        extended[8] |= FLAG_EXIF;
        size += 34;
      }
    }
    at = end;
  }
  viewOf(header).setUint32(4, size, true);
  return parts;
}

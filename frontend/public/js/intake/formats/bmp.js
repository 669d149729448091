// @ts-check
/** BMP: keeps header, masks, palette and pixels; removes a profile (or its path), gaps and trailing data. */

import { viewOf } from "./parts.js";

/** @typedef {import("./parts.js").Part} Part */

const FILE_HEADER = 14;
const BITFIELDS = [3, 6];
const V5 = 124;
const SRGB = 0x73524742;

/** @param {Uint8Array} bytes @returns {Part[]} */
export function bmpParts(bytes) {
  const view = viewOf(bytes);
  const headerSize = view.getUint32(14, true);
  const core = headerSize === 12;
  const pixels = view.getUint32(10, true);
  const width = core ? view.getUint16(18, true) : view.getInt32(18, true);
  const height = Math.abs(core ? view.getInt16(20, true) : view.getInt32(22, true));
  const bits = view.getUint16(core ? 24 : 28, true);
  const compression = core ? 0 : view.getUint32(30, true);
  const plain = bytes.slice(0, Math.min(bytes.length, pixels));

  const used = core ? 0 : view.getUint32(46, true);
  const colours = bits <= 8 ? used || 2 ** bits : used;
  const masks = headerSize === 40 && BITFIELDS.includes(compression) ? (compression === 6 ? 16 : 12) : 0;
  plain.fill(0, FILE_HEADER + headerSize + masks + colours * (core ? 3 : 4));
  plain.fill(0, 6, 10); // reserved
  if (headerSize >= V5 && plain.length >= FILE_HEADER + V5) {
    const header = viewOf(plain);
    header.setUint32(FILE_HEADER + 56, SRGB, true);
    plain.fill(0, FILE_HEADER + 112, FILE_HEADER + 120); // offset and size of the profile
  }
  const packed = compression !== 0 && !BITFIELDS.includes(compression);
  const size = packed ? view.getUint32(34, true) : Math.ceil((width * bits) / 32) * 4 * height;
  return [plain, [plain.length, Math.min(bytes.length, pixels + size)]];
}

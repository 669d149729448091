// @ts-check
/**
 * GIF89a: keeps frames, their timing and loops, and the colour profile; removes comments, texts and the rest.
 */

import { plainProfile } from "./icc.js";
import { joined, keep, latin } from "./parts.js";

/** @typedef {import("./parts.js").Part} Part */

const TRAILER = 0x3b;
const EXTENSION = 0x21;
const FRAME = 0x2c;
const CONTROL = 0xf9;
const APPLICATION = 0xff;

/** Size of a colour table in bytes. @param {number} flags */
const table = (flags) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);

/** @param {Uint8Array} bytes @returns {Part[]} */
export function gifParts(bytes) {
  const skipBlocks = (/** @type {number} */ from) => {
    while (from < bytes.length && bytes[from] !== 0) from += bytes[from] + 1;
    return from + 1;
  };
  let at = 13 + table(bytes[10]);
  /** @type {Part[]} */
  const parts = [[0, Math.min(at, bytes.length)]];
  while (at < bytes.length && (bytes[at] === EXTENSION || bytes[at] === FRAME)) {
    const frame = bytes[at] === FRAME;
    const end = Math.min(skipBlocks(frame ? at + 11 + table(bytes[at + 9]) : at + 2), bytes.length);
    const application = bytes[at + 1] === APPLICATION ? latin(bytes, at + 3, 11) : "";
    if (frame || bytes[at + 1] === CONTROL) keep(parts, at, end);
    else if (application === "NETSCAPE2.0") keep(parts, at, Math.min(at + 19, end));
    else if (application === "ICCRGBG1012") parts.push(...profileBlocks(bytes.slice(at, end)));
    at = end;
  }
  if (bytes[at] === TRAILER) keep(parts, at, at + 1);
  return parts;
}

/** The cleaned colour profile; nothing if it is damaged. @param {Uint8Array} block */
function profileBlocks(block) {
  const pieces = [];
  for (let at = 14; block[at] > 0; at += block[at] + 1)
    pieces.push(block.subarray(at + 1, at + 1 + block[at]));
  const plain = plainProfile(joined(pieces));
  if (!plain) return [];
  let from = 0;
  for (const piece of pieces) {
    piece.set(plain.subarray(from, from + piece.length));
    from += piece.length;
  }
  return [block];
}

// @ts-check
/**
 * PNG (W3C, third edition): keeps pixels, colours and the EXIF orientation; removes texts, times and trailing
 * data.
 */

import { orientationBlock, orientationOf } from "../orientation.js";
import { plainProfile } from "./icc.js";
import { joined, keep, latin, viewOf } from "./parts.js";

/** @typedef {import("./parts.js").Part} Part */

const KEPT = new Set(
  "IHDR PLTE IDAT IEND tRNS cHRM gAMA sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs acTL fcTL fdAT".split(" "),
);
const PROFILE_NAME = "ICC";

/** @param {Uint8Array} bytes @returns {Promise<Part[]>} */
export async function pngParts(bytes) {
  /** @type {Part[]} */
  const parts = [[0, 8]];
  const view = viewOf(bytes);
  for (let at = 8; at + 8 <= bytes.length;) {
    const name = latin(bytes, at + 4, 4);
    const end = at + 12 + view.getUint32(at);
    if (end > bytes.length) {
      if (KEPT.has(name)) keep(parts, at, bytes.length); // truncated: the server reports it
      break;
    }
    if (KEPT.has(name)) keep(parts, at, end);
    const content = bytes.subarray(at + 8, end - 4);
    if (name === "iCCP") parts.push(...(await profileChunk(content)));
    if (name === "eXIf" && orientationOf(content) !== 1) {
      parts.push(chunk("eXIf", orientationBlock(orientationOf(content))));
    }
    if (name === "IEND") break;
    at = end;
  }
  return parts;
}

/** @param {Uint8Array} bytes @param {GenericTransformStream} by */
const through = async (bytes, by) =>
  new Uint8Array(
    await new Response(new Blob([/** @type {BlobPart} */ (bytes)]).stream().pipeThrough(by)).arrayBuffer(),
  );

/** The cleaned colour profile; nothing if it is damaged. @param {Uint8Array} content */
async function profileChunk(content) {
  const name = content.indexOf(0);
  if (name < 0) return [];
  try {
    const plain = plainProfile(await through(content.subarray(name + 2), new DecompressionStream("deflate")));
    if (!plain) return [];
    const start = Uint8Array.from([...PROFILE_NAME].map((letter) => letter.charCodeAt(0)));
    const packed = await through(plain, new CompressionStream("deflate"));
    return [chunk("iCCP", joined([start, Uint8Array.of(0, 0), packed]))];
  } catch {
    return [];
  }
}

/** @param {string} name @param {Uint8Array} content */
function chunk(name, content) {
  const made = new Uint8Array(content.length + 12);
  const view = viewOf(made);
  view.setUint32(0, content.length);
  for (let index = 0; index < 4; index += 1) made[4 + index] = name.charCodeAt(index);
  made.set(content, 8);
  view.setUint32(content.length + 8, crc32(made.subarray(4, content.length + 8)));
  return made;
}

/** The checksum of ISO 3309. @param {Uint8Array} bytes */
function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

// @ts-check
/**
 * Estimates a file's compression from its tables. benchmarks/page/reencoding.md reports how often heavy
 * compression changes the decision.
 */

import { viewOf } from "./formats/parts.js";
import { typeOf } from "./types.js";

/** Sum of the JPEG standard's luminance table, which is quality 50 (ITU-T T.81, table K.1). */
const SUM_AT_50 = 3692;
/** On the scale of libjpeg, 1..100. */
const LOWEST_JPEG = 70;
/** Mean quantizer index of VP8, 0..127; libwebp writes 15 to 23 at quality 80, and at most 10 at 90. */
const HIGHEST_VP8 = 14;

/** @param {Blob} file @returns {Promise<boolean>} whether it may affect the answer */
export async function isHeavilyCompressed(file) {
  const type = await typeOf(file);
  if (type !== "image/jpeg" && type !== "image/webp") return false;
  const bytes = new Uint8Array(await file.arrayBuffer());
  try {
    if (type === "image/jpeg") return jpegQuality(bytes) < LOWEST_JPEG;
    return webpQuantizer(bytes) > HIGHEST_VP8;
  } catch {
    return false; // truncated: the server reports it
  }
}

/** @param {Uint8Array} bytes @returns {number} 1..100; 100 if there is no luminance table */
function jpegQuality(bytes) {
  const view = viewOf(bytes);
  for (let at = 2; view.getUint8(at) === 0xff;) {
    const marker = view.getUint8(at + 1);
    if (marker === 0xda) break;
    const size = view.getUint16(at + 2);
    for (let table = at + 4; marker === 0xdb && table < at + 2 + size;) {
      const wide = view.getUint8(table) >> 4 ? 2 : 1;
      const luminance = (view.getUint8(table) & 15) === 0;
      let sum = 0;
      for (let step = 0; step < 64; step += 1) {
        const place = table + 1 + step * wide;
        sum += wide === 2 ? view.getUint16(place) : view.getUint8(place);
      }
      const scale = (100 * sum) / SUM_AT_50;
      if (luminance) return scale <= 100 ? (200 - scale) / 2 : 5000 / scale;
      table += 1 + 64 * wide;
    }
    at += 2 + size;
  }
  return 100;
}

/** Reads the bits of a VP8 frame (RFC 6386, section 7). */
class Bits {
  #value = 0;
  #range = 255;
  #count = 0;
  #at;

  /** @param {DataView} view @param {number} at */
  constructor(view, at) {
    this.view = view;
    this.#value = view.getUint16(at);
    this.#at = at + 2;
  }

  bit() {
    const split = 1 + (((this.#range - 1) * 128) >> 8);
    const one = this.#value >= split << 8;
    this.#range = one ? this.#range - split : split;
    if (one) this.#value -= split << 8;
    while (this.#range < 128) {
      this.#value <<= 1;
      this.#range <<= 1;
      this.#count += 1;
      if (this.#count < 8) continue;
      this.#count = 0;
      this.#value |= this.view.getUint8(this.#at);
      this.#at += 1;
    }
    return one ? 1 : 0;
  }

  /** @param {number} count of bits */
  number(count) {
    let value = 0;
    for (let at = 0; at < count; at += 1) value = 2 * value + this.bit();
    return value;
  }

  /** Optional numbers, 0 if missing. @param {number} many @param {number} count of bits of each */
  optional(many, count) {
    return Array.from({ length: many }, () => {
      if (!this.bit()) return 0;
      const size = this.number(count);
      return this.bit() ? -size : size;
    });
  }
}

/** @param {Uint8Array} bytes @returns {number} the mean of its segments; 0 for a lossless file */
function webpQuantizer(bytes) {
  const view = viewOf(bytes);
  for (let at = 12; at + 8 <= bytes.length;) {
    const size = view.getUint32(at + 4, true);
    // "VP8 "; the frame's tag, signature and size come before its bits
    if (view.getUint32(at) === 0x56503820) return vp8Quantizer(new Bits(view, at + 18));
    at += 8 + size + (size % 2);
  }
  return 0;
}

/** @param {Bits} bits of a key frame's header, from section 9.2 */
function vp8Quantizer(bits) {
  bits.number(2); // colours, clamping
  /** @type {number[]} */
  let segments = [];
  let absolute = 0;
  if (bits.bit()) {
    const map = bits.bit();
    if (bits.bit()) {
      absolute = bits.bit();
      segments = bits.optional(4, 7);
      bits.optional(4, 6);
    }
    for (let at = 0; map && at < 3; at += 1) if (bits.bit()) bits.number(8);
  }
  bits.number(10); // loop filter
  if (bits.bit() && bits.bit()) bits.optional(8, 6);
  bits.number(2); // partitions
  const base = bits.number(7);
  if (segments.length === 0) return base;
  const mean = segments.reduce((sum, index) => sum + index, 0) / segments.length;
  return absolute ? mean : base + mean;
}

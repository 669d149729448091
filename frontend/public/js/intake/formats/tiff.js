// @ts-check
/**
 * TIFF 6.0 and BigTIFF: keeps the pixels and, in each directory, the entries that they need, with their
 * values. Kept data stays at its offset, and everything that no kept entry refers to is zeroed.
 */

import { plainProfile } from "./icc.js";
import { blankJpeg } from "./jpeg.js";
import { viewOf } from "./parts.js";

/** @typedef {import("./parts.js").Part} Part */

const COMPRESSION = 259;
const PROFILE = 34675;
const JPEG = 7;
/** Tags of the pixels' offsets and lengths: strips, tiles. */
const DATA = [
  [273, 279],
  [324, 325],
];
/**
 * Page type, size, bits, compression, colours, bit order, strips, orientation, samples, smallest and largest
 * value, resolution, planes, grey response, fax options, unit, transfer, predictor, white point, primaries,
 * palette, halftones, tiles, inks, extra samples, sample format and range, JPEG tables, YCbCr, reference,
 * profile.
 */
const KEPT = new Set([
  ...[254, 255, 256, 257, 258, COMPRESSION, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281],
  ...[282, 283, 284, 290, 291, 292, 293, 296, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 332, 334],
  ...[336, 338, 339, 340, 341, 347, 529, 530, 531, 532, PROFILE],
]);
/** Bytes of one value, by type. */
const SIZES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8];
const MOST_PAGES = 1000;

/**
 * @typedef {{tag: number, type: number, count: number, from: number, size: number}} Entry `from`: its values
 */

/** Reads and writes in the byte order and width of one file. */
class Tiff {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.little = this.view.getUint16(0) === 0x4949;
    this.big = this.view.getUint16(2, this.little) === 43;
    /** The kept bytes; the rest is zero. */
    this.plain = new Uint8Array(bytes.length);
    this.out = viewOf(this.plain);
    this.end = 0;
    /** size of an offset or a count of values, in bytes */
    this.wide = this.big ? 8 : 4;
    /** size of a directory's count of entries, in bytes */
    this.counter = this.big ? 8 : 2;
    this.entry = this.big ? 20 : 12;
  }

  /** @param {number} at @param {number} width */
  number(at, width) {
    if (width === 1) return this.view.getUint8(at);
    if (width === 2) return this.view.getUint16(at, this.little);
    if (width === 4) return this.view.getUint32(at, this.little);
    return Number(this.view.getBigUint64(at, this.little));
  }

  /** @param {number} at @param {number} width @param {number} value */
  write(at, width, value) {
    if (width === 2) this.out.setUint16(at, value, this.little);
    else if (width === 4) this.out.setUint32(at, value, this.little);
    else this.out.setBigUint64(at, BigInt(value), this.little);
    this.end = Math.max(this.end, at + width);
  }

  /** Keeps a range. @param {number} from @param {number} size */
  keep(from, size) {
    const to = Math.min(this.bytes.length, from + size);
    if (to <= from) return;
    this.plain.set(this.bytes.subarray(from, to), from);
    this.end = Math.max(this.end, to);
  }

  /** @param {number} at @returns {Entry} */
  entryAt(at) {
    const type = this.number(at + 2, 2);
    const count = this.number(at + 4, this.wide);
    const size = (SIZES[type] ?? 0) * count;
    const inside = at + 4 + this.wide;
    const from = size > this.wide ? this.number(inside, this.wide) : inside;
    return { tag: this.number(at, 2), type, count, from, size };
  }

  /** Integer values of an entry. @param {Entry | undefined} entry @returns {number[]} */
  values(entry) {
    if (!entry) return [];
    const width = SIZES[entry.type] ?? 0;
    if (![1, 2, 4, 8].includes(width) || entry.from + entry.size > this.bytes.length) return [];
    return Array.from({ length: entry.count }, (_, at) => this.number(entry.from + at * width, width));
  }

  /** Keeps one directory. @param {number} at @returns {number} offset of the next one, or 0 */
  directory(at) {
    const count = this.number(at, this.counter);
    const first = at + this.counter;
    const last = first + count * this.entry;
    if (last + this.wide > this.bytes.length) return 0;
    /** @type {Map<number, Entry>} */
    const entries = new Map();
    let place = first;
    for (let from = first; from < last; from += this.entry) {
      const entry = this.entryAt(from);
      if (!KEPT.has(entry.tag) || entries.has(entry.tag)) continue;
      if (entry.tag === PROFILE && !this.profile(entry)) continue;
      entries.set(entry.tag, entry);
      this.plain.set(this.bytes.subarray(from, from + this.entry), place);
      place += this.entry;
      if (entry.tag !== PROFILE && entry.size > this.wide) this.keep(entry.from, entry.size);
    }
    const next = this.number(last, this.wide);
    this.write(at, this.counter, entries.size);
    this.write(place, this.wide, next);
    this.pixels(entries);
    return next;
  }

  /** Keeps a colour profile, cleaned. @param {Entry} entry @returns {boolean} whether it could be read */
  profile({ from, size }) {
    const plain = plainProfile(this.bytes.subarray(from, from + size));
    if (!plain) return false;
    this.plain.set(plain, from);
    this.end = Math.max(this.end, from + size);
    return true;
  }

  /** Keeps the strips or tiles. @param {Map<number, Entry>} entries */
  pixels(entries) {
    const [compression] = this.values(entries.get(COMPRESSION));
    for (const [places, lengths] of DATA) {
      const sizes = this.values(entries.get(lengths));
      this.values(entries.get(places)).forEach((from, at) => {
        const size = sizes[at] ?? 0;
        this.keep(from, size);
        if (compression === JPEG) blankJpeg(this.plain.subarray(from, from + size));
      });
    }
  }
}

/** @param {Uint8Array} bytes @returns {Part[]} */
export function tiffParts(bytes) {
  const tiff = new Tiff(bytes);
  const start = tiff.big ? 8 : 4;
  tiff.keep(0, start + tiff.wide);
  const seen = new Set();
  for (let at = tiff.number(start, tiff.wide); at > 0 && !seen.has(at) && seen.size < MOST_PAGES;) {
    seen.add(at);
    at = at + tiff.counter <= bytes.length ? tiff.directory(at) : 0;
  }
  return [tiff.plain.subarray(0, tiff.end)];
}

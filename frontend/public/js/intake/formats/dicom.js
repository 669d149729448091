// @ts-check
/** DICOM: keeps the pixels and their description; removes all data on patient, study and devices. */

import { blankJpeg } from "./jpeg.js";
import { joined, keep, latin, viewOf } from "./parts.js";

/** @typedef {import("./parts.js").Part} Part */
/** @typedef {{tag: number, value: number, length: number | null, unknown: boolean}} Element */

const START = 132;
const SYNTAX = 0x00020010;
export const IMPLICIT = "1.2.840.10008.1.2";
const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const DEFLATED = "1.2.840.10008.1.2.1.99";
export const PIXELS = 0x7fe00010;
const ITEM = 0xfffee000;
/** JPEG Baseline (process 1) and Extended (processes 2 and 4), of 8 bits. */
export const JPEGS = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"];
const [ITEM_END, SEQUENCE_END] = [0xfffee00d, 0xfffee0dd];
const UNDEFINED = 0xffffffff;
const DEEPEST = 16;
const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]);
const KEPT = new Set([
  SYNTAX,
  ...[0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030],
  ...[0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00282000],
  ...[0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203],
  ...[0x7fe00001, 0x7fe00002, PIXELS],
]);

export class Dicom {
  little = true;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
  }

  /** @param {number} at @param {boolean} implicit @returns {Element} */
  element(at, implicit) {
    const tag = this.view.getUint16(at, this.little) * 0x10000 + this.view.getUint16(at + 2, this.little);
    const kind = implicit ? "" : latin(this.bytes, at + 4, 2);
    const wide = LONG.has(kind);
    const value = at + (wide ? 12 : 8);
    const length =
      implicit || wide
        ? this.view.getUint32(value - 4, this.little)
        : this.view.getUint16(value - 2, this.little);
    return { tag, value, length: length === UNDEFINED ? null : length, unknown: kind === "UN" };
  }

  /**
   * The end of an element, of defined or undefined length.
   *
   * @param {Element} element @param {boolean} implicit @param {number} depth
   * @returns {number}
   */
  endOf({ tag, value, length, unknown }, implicit, depth = 0) {
    if (length !== null) return value + length;
    if (depth > DEEPEST) throw new RangeError("too many sequences");
    const inner = implicit || unknown;
    let at = value;
    for (;;) {
      const item = this.element(at, true);
      if (item.tag === SEQUENCE_END) return item.value;
      if (item.tag !== ITEM) throw new RangeError("no item");
      const inside = item.length === null && tag !== PIXELS;
      at = inside ? this.itemEnd(item.value, inner, depth) : this.endOf(item, true);
    }
  }

  /** @param {number} at @param {boolean} implicit @param {number} depth @returns {number} */
  itemEnd(at, implicit, depth) {
    for (;;) {
      if (this.element(at, true).tag === ITEM_END) return at + 8;
      const element = this.element(at, implicit);
      at = this.endOf(element, implicit, depth + 1);
    }
  }
}

/**
 * Yields the elements in sequence, up to the pixels; stops if the file is deflated, and throws if it is
 * truncated or broken.
 *
 * @param {Dicom} dicom
 * @param {(syntax: string) => void} [tell] called with the transfer syntax
 * @returns {Generator<{element: Element, at: number, end: number}>}
 */
export function* elementsOf(dicom, tell = () => {}) {
  const { bytes } = dicom;
  let at = START;
  let syntax = "";
  // The meta information is always explicit and little-endian.
  for (let end = 0; bytes[at] === 2; at = end) {
    const element = dicom.element(at, false);
    end = dicom.endOf(element, false);
    yield { element, at, end };
    if (element.tag === SYNTAX)
      syntax = latin(bytes, element.value, end - element.value).replace(/[\0 ]+$/, "");
  }
  tell(syntax);
  if (syntax === DEFLATED) return; // the server reports that it is unsupported
  dicom.little = syntax !== BIG_ENDIAN;
  const implicit = syntax === IMPLICIT || !/^[A-Z]{2}$/.test(latin(bytes, at + 4, 2));
  for (let end = 0; at < bytes.length; at = end) {
    const element = dicom.element(at, implicit);
    end = dicom.endOf(element, implicit);
    yield { element, at, end };
    if (element.tag === PIXELS) return;
  }
}

/**
 * The fragments of compressed pixels, without the offset table before them.
 *
 * @param {Dicom} dicom
 * @param {number} start
 * @param {number} end
 */
export function piecesOf(dicom, start, end) {
  /** @type {[from: number, to: number][]} */
  const pieces = [];
  for (let at = start; at + 8 <= end;) {
    const { tag, value, length } = dicom.element(at, true);
    if (tag !== ITEM || length === null) break;
    at = value + length;
    pieces.push([value, Math.min(at, end)]);
  }
  return pieces.slice(1);
}

/**
 * The pixel element without the metadata in its JPEG frames, such as place and time; lengths do not change.
 *
 * @param {Dicom} dicom
 * @param {number} at
 * @param {Element} element
 * @param {number} end
 */
function plainFrames(dicom, at, { value }, end) {
  const { bytes } = dicom;
  const plain = bytes.slice(at, end);
  /** @type {[from: number, to: number][][]} */
  const frames = [];
  for (const piece of piecesOf(dicom, value, end)) {
    const begins = bytes[piece[0]] === 0xff && bytes[piece[0] + 1] === 0xd8;
    if (begins || frames.length === 0) frames.push([]);
    frames[frames.length - 1].push(piece);
  }
  for (const frame of frames) {
    // a segment may continue in the next fragment
    const whole = joined(frame.map(([from, to]) => bytes.subarray(from, to)));
    blankJpeg(whole);
    let place = 0;
    for (const [from, to] of frame) {
      plain.set(whole.subarray(place, place + to - from), from - at);
      place += to - from;
    }
  }
  return plain;
}

/** @param {Uint8Array} bytes @returns {Part[]} */
export function dicomParts(bytes) {
  const start = new Uint8Array(START);
  start.set(bytes.subarray(128, START), 128);
  /** @type {Part[]} */
  const parts = [start];
  try {
    let syntax = "";
    const dicom = new Dicom(bytes);
    for (const { element, at, end } of elementsOf(dicom, (told) => (syntax = told))) {
      const frames = element.tag === PIXELS && element.length === null && JPEGS.includes(syntax);
      if (frames) parts.push(plainFrames(dicom, at, element, end));
      else if (KEPT.has(element.tag)) keep(parts, at, Math.min(end, bytes.length));
    }
  } catch {
    return parts; // truncated or broken: the server reports it
  }
  return parts;
}

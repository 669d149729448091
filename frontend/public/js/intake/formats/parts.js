// @ts-check
/** Represents a file by the parts to keep: each a range of the file, or new bytes. */

/** @typedef {[from: number, to: number] | Uint8Array} Part */

/** @param {Uint8Array} bytes @param {number} from @param {number} length */
export const latin = (bytes, from, length) => String.fromCharCode(...bytes.subarray(from, from + length));

/** @param {Uint8Array} bytes */
export const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Adds a range, merging adjacent ones. @param {Part[]} parts @param {number} from @param {number} to */
export function keep(parts, from, to) {
  const last = parts.at(-1);
  if (Array.isArray(last) && last[1] === from) last[1] = to;
  else if (to > from) parts.push([from, to]);
}

/** Concatenates. @param {Uint8Array[]} pieces */
export function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

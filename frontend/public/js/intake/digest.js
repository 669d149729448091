// @ts-check
/** SHA-256 (FIPS 180-4) of a picture's bytes: ties an answer to the picture that it was computed from. */

/**
 * The constants are the first 32 bits of the fractional parts of the roots of the first primes: square roots
 * for the initial state, cube roots for the rounds.
 */
const primes = (/** @type {number} */ count) => {
  /** @type {number[]} */
  const found = [];
  for (let candidate = 2; found.length < count; candidate += 1) {
    if (found.every((prime) => candidate % prime)) found.push(candidate);
  }
  return found;
};
const fraction = (/** @type {number} */ root) => ((root - Math.floor(root)) * 2 ** 32) | 0;
const START = primes(8).map((prime) => fraction(Math.sqrt(prime)));
const ROUNDS = primes(64).map((prime) => fraction(Math.cbrt(prime)));

const turn = (/** @type {number} */ word, /** @type {number} */ by) => (word >>> by) | (word << (32 - by));

/** The padded message: a 1 bit, zeros, the length in bits. @param {Uint8Array} bytes */
function padded(bytes) {
  const message = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  message.set(bytes);
  message[bytes.length] = 0x80;
  const view = new DataView(message.buffer);
  view.setUint32(message.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(message.length - 4, (bytes.length * 8) >>> 0);
  return view;
}

/** Processes one block of 64 bytes. @param {Int32Array} state @param {Int32Array} words */
function compress(state, words) {
  let [a, b, c, d, e, f, g, h] = state;
  for (let round = 0; round < 64; round += 1) {
    const choice = (e & f) ^ (~e & g);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    const mixed = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const first = (h + mixed + choice + ROUNDS[round] + words[round]) | 0;
    const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, at) => (state[at] += word));
}

/** The same digest for browsers that offer none. @param {Uint8Array} bytes @returns {string} hexadecimal */
export function slowDigest(bytes) {
  const message = padded(bytes);
  const state = Int32Array.from(START);
  const words = new Int32Array(64);
  for (let block = 0; block < message.byteLength; block += 64) {
    for (let at = 0; at < 16; at += 1) words[at] = message.getInt32(block + 4 * at);
    for (let at = 16; at < 64; at += 1) {
      const [late, early] = [words[at - 2], words[at - 15]];
      const low = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
      const high = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
      words[at] = words[at - 16] + low + words[at - 7] + high;
    }
    compress(state, words);
  }
  return [...state].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** @param {ArrayBuffer} bytes @returns {Promise<string>} hexadecimal */
export async function digestOf(bytes) {
  // crypto.subtle exists only in secure contexts
  if (!crypto.subtle) return slowDigest(new Uint8Array(bytes));
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// @ts-check
/**
 * Removes device, maker, person and time from colour profiles (ICC.1:2022). Their length does not change.
 */

import { latin, viewOf } from "./parts.js";

const HEADER = 128;
/** The tags from which a transform to sRGB is computed. */
const TAGS = new Set(
  [
    ...["rXYZ", "gXYZ", "bXYZ", "rTRC", "gTRC", "bTRC", "kTRC", "wtpt", "bkpt", "chad", "cicp"],
    ...["A2B0", "A2B1", "A2B2", "A2B3", "B2A0", "B2A1", "B2A2", "D2B0", "D2B1", "D2B2", "D2B3"],
  ].flat(),
);
/**
 * Kept ranges of the header: size; version, class and colour spaces; signature; flags; attributes, intent,
 * illuminant.
 */
const HEADER_KEPT = [
  [0, 4],
  [8, 24],
  [36, 40],
  [44, 48],
  [56, 80],
];

/** Replaces a description by "sRGB". @param {Uint8Array} tag modified in place, keeps its length */
function writeSrgb(tag) {
  const kind = latin(tag, 0, 4);
  const view = viewOf(tag);
  tag.fill(0, 4);
  const word = [..."sRGB"].map((letter) => letter.charCodeAt(0));
  if (kind === "mluc") {
    view.setUint32(8, 1); // one text
    view.setUint32(12, 12); // size of its record
    tag.set([0x65, 0x6e, 0x55, 0x53], 16); // enUS
    view.setUint32(20, 8);
    view.setUint32(24, 28);
    word.forEach((letter, at) => view.setUint16(28 + 2 * at, letter));
  } else {
    view.setUint32(8, 5);
    tag.set(word, 12);
  }
}

/** The letters of a text with one or two bytes each. @param {Uint8Array} tag */
const lettersOf = (tag) => latin(tag, 0, Math.min(tag.length, 1000)).replaceAll("\0", "").toLowerCase();

/**
 * @param {Uint8Array} profile
 * @returns {Uint8Array | null} of the same length; null if it is damaged
 */
export function plainProfile(profile) {
  if (profile.length < HEADER + 4 || latin(profile, 36, 4) !== "acsp") return null;
  const view = viewOf(profile);
  const count = view.getUint32(HEADER);
  if (HEADER + 4 + 12 * count > profile.length) return null;
  const plain = new Uint8Array(profile.length);
  for (const [from, to] of HEADER_KEPT) plain.set(profile.subarray(from, to), from);
  let kept = 0;
  for (let at = HEADER + 4; at < HEADER + 4 + 12 * count; at += 12) {
    const name = latin(profile, at, 4);
    const [from, size] = [view.getUint32(at + 4), view.getUint32(at + 8)];
    if (from < HEADER || from + size > profile.length) return null;
    const tag = profile.slice(from, from + size);
    // the server treats a profile of that name as sRGB, so the name must stay
    const srgb = name === "desc" && size >= 36 && lettersOf(tag).includes("srgb");
    if (!srgb && !TAGS.has(name)) continue;
    if (srgb) writeSrgb(tag);
    plain.set(tag, from);
    plain.set(profile.subarray(at, at + 12), HEADER + 4 + 12 * kept);
    kept += 1;
  }
  viewOf(plain).setUint32(HEADER, kept);
  return plain;
}

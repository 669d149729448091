// @ts-check
/**
 * Translates sentences that the server writes in English. The server's words stay, marked as English, if the
 * page is in English or does not know the sentence.
 */

import { foreign } from "./dom.js";
import { currentLanguage, t } from "./i18n.js";

/**
 * Each with the key of its translation; a pattern's named groups fill the placeholders.
 * @type {[string, RegExp][]}
 */
const KNOWN = [
  // about a refused picture
  [
    "served.size",
    /^Received (?<width>\d+) x (?<height>\d+) pixels; allowed: a shorter side of .* (?<least>\d+)\.$/,
  ],
  [
    "served.pixels",
    /^Received (?<width>\d+) x (?<height>\d+) = [\d,]+ pixels; allowed: at most (?<most>[\d,]+)\.$/,
  ],
  ["served.bytes", /^Received (?<size>[\d,]+) bytes; allowed: at most (?<most>[\d,]+)\.$/],
  ["served.bytesOver", /^Received: a file of more than (?<most>[\d,]+) bytes\. Allowed: [\d,]+ bytes/],
  ["served.empty", /^Received an empty file;/],
  ["served.type", /^Received (?:a|an) [^;(]+; allowed: JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM\.$/],
  [
    "served.damaged",
    /^Received an? (?<format>\w+) file that is incomplete or damaged \((?<size>[\d,]+) bytes\);/,
  ],
  [
    "served.undecodable",
    /^Received an? (?<format>\w+) file \((?<size>[\d,]+) bytes\) that cannot be decoded;/,
  ],
  // about a service that cannot answer now
  ["served.full", /^The queue is full\./],
  ["served.late", /^No answer within (?<seconds>[\d.]+) s\./],
  ["served.absent", /^The model '(?<name>[^']+)' is not being served/],
  ["served.failed", /^The service failed to answer\. The cause is in its log under this request_id\.$/],
  [
    "served.rate",
    /^Received: more images with this key .+: (?<rate>[\d.]+) a second, and up to (?<burst>\d+)/,
  ],
  // a model's purpose and limits
  [
    "served.use",
    /^Research on computer-aided reading of dermoscopic (?:pictures|images) of single skin lesions,/,
  ],
  ["served.dermoscopic", /^(?:Judges|Assesses) only dermoscopic (?:pictures|images) of a single lesion/],
  ["served.below", /^Below the threshold does not mean benign: .+ (?<share>\d+)% of malignant lesions/],
  [
    "served.skin",
    /^The (?:pictures|images) (?:that it learnt from|that it was trained on) show mostly light skin;/,
  ],
  ["served.resolution", /^An image is seen at (?<side>\d+) x \d+ pixels: finer structures are not\.$/],
  ["served.binary", /^It tells benign from malignant only, and names no diagnosis\.$/],
  [
    "served.marked",
    /^Malignant here means no more than that its data mark these classes so: (?<names>.+)\.$/,
  ],
  [
    "served.refitted",
    /^Calibration, threshold .+ anew to (?<count>\d+) images .+ version (?<version>[^;]+);/,
  ],
  [
    "served.moved",
    /^The probabilities were moved from version (?<version>.+)'s .+ (?<before>[\d.]+) to (?<after>[\d.]+),/,
  ],
];

/** @param {string} value a number as the server writes it, or a word */
const valueOf = (value) =>
  /^\d{1,3}(,\d{3})+$|^\d+(\.\d+)?$/.test(value) ? Number(value.replaceAll(",", "")) : value;

/** @param {string} text a sentence of the server @returns {Node | string} what to show of it */
export function served(text) {
  for (const [key, pattern] of currentLanguage() === "en" ? [] : KNOWN) {
    const found = pattern.exec(text);
    if (!found) continue;
    const values = Object.entries(found.groups ?? {}).map(([name, value]) => [name, valueOf(value)]);
    return t(key, Object.fromEntries(values));
  }
  return foreign(text);
}

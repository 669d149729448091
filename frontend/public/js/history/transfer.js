// @ts-check
/**
 * Exports the history to one file, for a doctor or another device, and imports it. It is a ZIP archive of the
 * pictures, with their list as first entry, so that the intact part of a damaged archive can be read.
 */

import { has } from "../i18n.js";
import { typeOf } from "../intake/types.js";
import { IN_MILLIMETRES, MEASURES } from "../lesion/correction.js";
import { SITES, shotsOf } from "./store.js";
import { isArchive, pack, unpack } from "./zip.js";

/** @typedef {import("./store.js").Content} Content */
/** @typedef {import("./store.js").Mole} Mole */
/** @typedef {import("./store.js").Picture} Picture */
/** @typedef {import("./store.js").Shot} Shot */
/** The intact content of a file, and the day, if known, of each damaged picture. */
/** @typedef {Content & {damaged: (number | null)[]}} Imported */

const FORMAT = "aiderm-history";
const LIST = "history.json";
const LONGEST_TEXT = 500;
const ENDINGS = /** @type {Record<string, string>} */ ({
  "image/jpeg": "jpg",
  "image/png": "png",
  "image/webp": "webp",
  "image/bmp": "bmp",
  "image/tiff": "tif",
  "image/gif": "gif",
  "application/dicom": "dcm",
});

/** @param {string} id @param {string} type of its content */
const pathOf = (id, type) => `pictures/${id}.${ENDINGS[type] ?? "bin"}`;

/**
 * Writes the archive and reads it back.
 *
 * @param {Content} content
 * @returns {Promise<{archive: Blob, count: number, left: number[]}>} `count`: its pictures; `left`: the
 *   days of those that this device can no longer read. Rejects if the archive does not read back intact
 */
export async function toFile({ moles, pictures }) {
  /** @type {import("./zip.js").Entry[]} */
  const entries = [];
  const list = [];
  const left = [];
  for (const picture of pictures) {
    const told = [];
    for (const { id, picture: content, ...shot } of shotsOf(picture)) {
      const type = await typeOf(content).catch(() => "");
      const path = pathOf(id, type);
      if (type) told.push({ ...shot, picture: path });
      else left.push(picture.takenAt);
      if (type) entries.push({ name: path, content });
    }
    const [first, ...others] = told;
    if (first) list.push({ ...picture, ...first, others });
  }
  const text = JSON.stringify({ format: FORMAT, version: 2, moles, pictures: list }, null, 1);
  const archive = await pack([{ name: LIST, content: new Blob([text]) }, ...entries]);
  const { pictures: back, damaged } = await fromFile(archive);
  const whole = back.flatMap(shotsOf).filter(({ picture }, at) => entries[at]?.content.size === picture.size);
  if (damaged.length > 0 || whole.length !== entries.length) {
    throw new Error(`the archive holds ${whole.length} whole pictures. Expected: ${entries.length}`);
  }
  return { archive, count: entries.length, left };
}

/** @param {unknown} value @returns {value is string} */
const isText = (value) => typeof value === "string" && value.length < LONGEST_TEXT;

const MOST_POINTS = 1_000;

/** @param {any} line @returns {line is import("../lesion/shape.js").Point[]} */
const isOutline = (line) =>
  Array.isArray(line) &&
  line.length > 2 &&
  line.length <= MOST_POINTS &&
  line.every((point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite));

/** @param {any} measure */
const isRange = (measure) => [measure?.value, measure?.low, measure?.high].every(Number.isFinite);

/** @param {any} found @returns {found is import("../lesion/card.js").Observed} */
const isObserved = (found) =>
  [found?.image?.width, found?.image?.height].every((side) => Number.isInteger(side) && side > 0) &&
  (found.image.pixel_spacing_mm ?? [1, 1]).every?.((/** @type {unknown} */ step) => Number(step) > 0) &&
  ["x", "y", "width", "height"].every((name) => Number.isFinite(found.region?.[name])) &&
  isOutline(found.lesion?.outline) &&
  MEASURES.every((name) => isRange(found.lesion[name])) &&
  IN_MILLIMETRES.every((name) => !found.lesion[name] || isRange(found.lesion[name])) &&
  Array.isArray(found.lesion.colours) &&
  found.lesion.colours.every(
    (/** @type {any} */ colour) => has(`lesion.colour.${colour?.name}`) && Number.isFinite(colour.share),
  );

/** @param {any} mole @returns {mole is Mole} */
const isMole = (mole) =>
  isText(mole?.id) && isText(mole.label) && SITES.includes(mole.site) && Number.isFinite(mole.createdAt);

/**
 * @param {Blob} file an archive, or a file of the first version (JSON with the pictures in it)
 * @returns {Promise<Imported>} what is intact; rejects if the file is not an exported history
 */
export async function fromFile(file) {
  const archive = (await isArchive(file)) ? await unpack(file) : null;
  const text = archive ? await archive.get(LIST)?.() : file;
  const body = JSON.parse((await text?.text()) ?? "");
  if (body?.format !== FORMAT || body.version !== (archive ? 2 : 1)) {
    throw new TypeError(
      `a history has format ${FORMAT}, version 1 or 2. Received: ${body?.format} ${body?.version}`,
    );
  }
  if (!Array.isArray(body.moles) || !Array.isArray(body.pictures)) throw new TypeError("the list is damaged");
  const moles = body.moles
    .filter(isMole)
    .map(/** @param {Mole} mole */ ({ id, label, site, createdAt }) => ({ id, label, site, createdAt }));
  const known = new Set(moles.map((/** @type {Mole} */ { id }) => id));
  /** @type {Picture[]} */
  const pictures = [];
  /** @type {(number | null)[]} */
  const damaged = [];
  for (const entry of body.pictures) {
    const { id, mole, takenAt, decision, model } = entry ?? {};
    const texts =
      isText(id) && isText(decision) && isText(model) && known.has(mole) && Number.isFinite(takenAt);
    const told = [entry, ...(Array.isArray(entry?.others) ? entry.others : [])];
    const shots = await Promise.all(told.map((shot) => (texts ? shotOf(shot, archive) : null)));
    const [first, ...others] = shots.filter((shot) => shot !== null);
    if (first) pictures.push({ id, mole, takenAt, decision, model, ...first, others });
    for (const shot of shots) if (!shot) damaged.push(Number.isFinite(takenAt) ? takenAt : null);
  }
  const lost = damaged.length > 0 || moles.length < body.moles.length;
  if (pictures.length === 0 && lost) throw new TypeError("nothing in the file is whole");
  const used = new Set(pictures.map(({ mole }) => mole));
  return { moles: moles.filter((/** @type {Mole} */ { id }) => used.has(id)), pictures, damaged };
}

/**
 * @param {any} told the list's entry for a photograph
 * @param {Parameters<typeof contentOf>[1]} archive
 * @returns {Promise<Shot | null>} null if it is damaged
 */
async function shotOf(told, archive) {
  const picture = await contentOf(told?.picture, archive);
  if (!picture) return null;
  const outline = isOutline(told.outline) ? told.outline : null;
  return { picture, outline, observed: isObserved(told.observed) ? told.observed : null };
}

/**
 * @param {unknown} place a path in the archive, or a data URL
 * @param {Map<string, () => Promise<Blob | null>> | null} archive
 * @returns {Promise<Blob | null>} null if it is no picture, or damaged
 */
async function contentOf(place, archive) {
  const content = archive ? await archive.get(String(place))?.() : fromAddress(String(place));
  const type = content && (await typeOf(content));
  return content && type ? content.slice(0, content.size, type) : null;
}

/** Not by fetch: the Content Security Policy blocks data URLs. @param {string} address */
function fromAddress(address) {
  const data = /^data:[^,]*;base64,([A-Za-z0-9+/]+=*)$/.exec(address)?.[1];
  try {
    return data ? new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))]) : null;
  } catch {
    return null;
  }
}

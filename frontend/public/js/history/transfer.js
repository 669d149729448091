// @ts-check
/** The history as one file: to take along to a doctor or to another device, and back. */

import { SITES } from "./store.js";

/** @typedef {import("./store.js").Content} Content */

const FORMAT = "aiderm-history";
const VERSION = 1;

/** @param {Blob} blob @returns {Promise<string>} */
const dataAddress = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

/** @param {Content} content @returns {Promise<Blob>} JSON, pictures as data addresses */
export async function toFile({ moles, pictures }) {
  const written = [];
  for (const picture of pictures) written.push({ ...picture, picture: await dataAddress(picture.picture) });
  return new Blob([JSON.stringify({ format: FORMAT, version: VERSION, moles, pictures: written })], { type: "application/json" });
}

/** @param {unknown} value */
const isText = (value) => typeof value === "string" && value.length < 500;

/**
 * @param {Blob} file
 * @returns {Promise<Content>} rejects when the file is no such export, or not whole
 */
export async function fromFile(file) {
  const body = JSON.parse(await file.text());
  if (body?.format !== FORMAT || body.version !== VERSION || !Array.isArray(body.moles) || !Array.isArray(body.pictures)) {
    throw new TypeError(`a history has format ${FORMAT} and version ${VERSION}. Received: ${body?.format} ${body?.version}`);
  }
  const moles = body.moles.map((/** @type {any} */ mole) => {
    if (!isText(mole?.id) || !isText(mole.label) || !SITES.includes(mole.site) || !Number.isFinite(mole.createdAt)) throw new TypeError("a mole is damaged");
    return { id: mole.id, label: mole.label, site: mole.site, createdAt: mole.createdAt };
  });
  const known = new Set(moles.map((/** @type {{id: string}} */ { id }) => id));
  const pictures = body.pictures.map((/** @type {any} */ entry) => {
    const whole = isText(entry?.id) && known.has(entry.mole) && Number.isFinite(entry.takenAt) && isText(entry.decision) && isText(entry.model);
    if (!whole) throw new TypeError("a picture is damaged");
    return { id: entry.id, mole: entry.mole, takenAt: entry.takenAt, decision: entry.decision, model: entry.model, picture: blobOf(entry.picture) };
  });
  return { moles, pictures };
}

/** @param {unknown} address a data address; not fetched, since the security policy allows no data there */
function blobOf(address) {
  const match = /^data:(image\/(?:jpeg|png|webp|bmp|tiff|gif));base64,([A-Za-z0-9+/]+=*)$/.exec(String(address));
  if (!match) throw new TypeError("a picture is damaged");
  return new Blob([Uint8Array.from(atob(match[2]), (character) => character.charCodeAt(0))], { type: match[1] });
}

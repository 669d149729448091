// @ts-check
/**
 * The history on this device: moles and their pictures in IndexedDB. There is no database until someone asks
 * for one.
 */

import { Database, settled } from "../database.js";

/** @typedef {import("../lesion/shape.js").Point} Point */
/**
 * No probability is kept: pictures are compared, not scores. `observed`: what was measured inside the model's
 * outline, where there was one; `outline`: of the lesion, in pixels, where it was corrected by hand.
 *
 * @typedef {{id: string, label: string, site: string, createdAt: number}} Mole
 * @typedef {import("../lesion/card.js").Observed} Observed
 * @typedef {{picture: Blob, outline?: Point[] | null, observed?: Observed | null}} Shot
 * @typedef {{id: string, mole: string, takenAt: number, decision: string, model: string} & Shot} Picture
 * @typedef {{moles: Mole[], pictures: Picture[]}} Content
 */

/** Names of places on the body; the strings name them in each language. */
export const SITES = [
  "face",
  "scalp",
  "neck",
  "chest",
  "abdomen",
  "upperBack",
  "lowerBack",
  "leftArm",
  "rightArm",
  "leftHand",
  "rightHand",
  "buttocks",
  "genital",
  "leftLeg",
  "rightLeg",
  "leftFoot",
  "rightFoot",
  "other",
];

/** Unlike crypto.randomUUID it is there on plain HTTP too. */
export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const database = new Database("aiderm-history", { moles: [], pictures: ["mole"] });

/** Whether the history is on. */
export const isOn = () => database.exists();

/** Makes the database. */
export const turnOn = () => database.transact("readonly", () => {});

/** Everything, the oldest pictures first. @returns {Promise<Content>} */
export async function readAll() {
  const content = await database.transact("readonly", async (moles, pictures) => {
    const [all, shots] = await Promise.all([settled(moles.getAll()), settled(pictures.getAll())]);
    return { moles: all, pictures: shots };
  });
  content.pictures.sort((a, b) => a.takenAt - b.takenAt);
  content.moles.sort((a, b) => a.createdAt - b.createdAt);
  return content;
}

/** Adds or replaces, by id; all or nothing. @param {Content} content */
export const write = ({ moles, pictures }) =>
  database.transact("readwrite", (moleStore, pictureStore) => {
    for (const mole of moles) moleStore.put(mole);
    for (const picture of pictures) pictureStore.put(picture);
  });

/** Replaces a picture; a mole whose last picture moved to another one goes. @param {Picture} picture */
export const changePicture = (picture) =>
  database.transact("readwrite", async (moles, pictures) => {
    const before = await settled(pictures.get(picture.id));
    pictures.put(picture);
    if (!before || before.mole === picture.mole) return;
    if ((await settled(pictures.index("mole").count(before.mole))) === 0) moles.delete(before.mole);
  });

/** What writes one after another. @type {Promise<unknown>} */
let changing = Promise.resolve();

/**
 * Puts another outline on a picture, where that is still kept.
 *
 * @param {string} id
 * @param {Point[] | null} outline null: it is the model's again
 */
export function changeOutline(id, outline) {
  const change = async () => {
    if (!(await isOn())) return;
    await database.transact("readwrite", async (_, pictures) => {
      const kept = await settled(pictures.get(id));
      if (kept) pictures.put({ ...kept, outline });
    });
  };
  const changed = changing.then(change);
  changing = changed.catch(() => {});
  return changed;
}

/** Deletes a picture; a mole without pictures goes with its last one. @param {Picture} picture */
export const deletePicture = (picture) =>
  database.transact("readwrite", async (moles, pictures) => {
    pictures.delete(picture.id);
    if ((await settled(pictures.index("mole").count(picture.mole))) === 0) moles.delete(picture.mole);
  });

/** Turns the history off: the database goes, with all that is in it. */
export const deleteAll = () => database.remove();

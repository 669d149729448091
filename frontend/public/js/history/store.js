// @ts-check
/**
 * The history on this device: moles and their pictures in IndexedDB. The database only exists once the reader
 * turns the history on.
 */

import { Database, settled } from "../database.js";

/** @typedef {import("../lesion/shape.js").Point} Point */
/**
 * No probability is kept: pictures are compared, not scores. `observed`: measurements inside the model's
 * outline, if there was one; `outline`: the lesion's, in pixels, if it was corrected by hand.
 *
 * @typedef {{id: string, label: string, site: string, createdAt: number}} Mole
 * @typedef {import("../lesion/card.js").Observed} Observed
 * @typedef {{picture: Blob, outline?: Point[] | null, observed?: Observed | null}} Shot
 * @typedef {{id: string, mole: string, takenAt: number, decision: string, model: string, others?: Shot[]} &
 *   Shot} Picture of one day; `others`: further photographs of the spot that the answer is based on
 * @typedef {{moles: Mole[], pictures: Picture[]}} Content
 */

/** Keys of places on the body; the strings translate them. */
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

/** Unlike crypto.randomUUID, this works on plain HTTP too. */
export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * The photographs of one day, each as a separate picture.
 *
 * @param {Picture} picture
 * @returns {(Shot & {id: string})[]}
 */
export const shotsOf = ({ id, picture, outline, observed, others = [] }) => [
  { id, picture, outline, observed },
  ...others.map((shot, at) => ({ ...shot, id: `${id}-${at + 1}` })),
];

const database = new Database("aiderm-history", { moles: [], pictures: ["mole"] });

/** Whether the history is on. */
export const isOn = () => database.exists();

/** Creates the database. */
export const turnOn = () => database.transact("readonly", () => {});

/** Everything, oldest first. @returns {Promise<Content>} */
export async function readAll() {
  const content = await database.transact("readonly", async (moles, pictures) => {
    const [all, shots] = await Promise.all([settled(moles.getAll()), settled(pictures.getAll())]);
    return { moles: all, pictures: shots };
  });
  content.pictures.sort((a, b) => a.takenAt - b.takenAt);
  content.moles.sort((a, b) => a.createdAt - b.createdAt);
  return content;
}

/** Adds or replaces, by id, in one transaction. @param {Content} content */
export const write = ({ moles, pictures }) =>
  database.transact("readwrite", (moleStore, pictureStore) => {
    for (const mole of moles) moleStore.put(mole);
    for (const picture of pictures) pictureStore.put(picture);
  });

/**
 * Adds or replaces a picture; deletes a mole whose last picture moved to another one.
 *
 * @param {Mole | null} mole of the picture, if it may be new
 * @param {Picture} picture
 */
export const keepPicture = (mole, picture) =>
  database.transact("readwrite", async (moles, pictures) => {
    const before = await settled(pictures.get(picture.id));
    if (mole) moles.put(mole);
    pictures.put(picture);
    if (!before || before.mole === picture.mole) return;
    if ((await settled(pictures.index("mole").count(before.mole))) === 0) moles.delete(before.mole);
  });

/** Serialises changes of outlines. @type {Promise<unknown>} */
let changing = Promise.resolve();

/**
 * Changes the outline of a photograph, if that is still kept.
 *
 * @param {string} id of the picture
 * @param {number} place index of the photograph
 * @param {Point[] | null} outline null: back to the model's
 */
export function changeOutline(id, place, outline) {
  const change = async () => {
    if (!(await isOn())) return;
    await database.transact("readwrite", async (_, pictures) => {
      const kept = /** @type {Picture | undefined} */ (await settled(pictures.get(id)));
      if (!kept) return;
      const others = kept.others?.map((shot, at) => (at === place - 1 ? { ...shot, outline } : shot));
      pictures.put({ ...kept, others, ...(place === 0 ? { outline } : {}) });
    });
  };
  const changed = changing.then(change);
  changing = changed.catch(() => {});
  return changed;
}

/** Deletes a picture, and its mole if that was the last one. @param {Picture} picture */
export const deletePicture = (picture) =>
  database.transact("readwrite", async (moles, pictures) => {
    pictures.delete(picture.id);
    if ((await settled(pictures.index("mole").count(picture.mole))) === 0) moles.delete(picture.mole);
  });

/** Turns the history off and deletes its database. */
export const deleteAll = () => database.remove();

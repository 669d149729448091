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
 * @typedef {{id: string, mole: string, takenAt: number, decision: string, model: string, others?: Shot[]} &
 *   Shot} Picture of one day; `others` are further photographs of the spot that the answer rests on as well
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

/**
 * The photographs of one day, each as a picture of its own.
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

/**
 * Adds a picture, or replaces it; a mole whose last picture moved to another one goes.
 *
 * @param {Mole | null} mole that the picture is of, where it may be a new one
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

/** What writes one after another. @type {Promise<unknown>} */
let changing = Promise.resolve();

/**
 * Puts another outline on a photograph, where that is still kept.
 *
 * @param {string} id of the picture
 * @param {number} place of the photograph; 0: the first
 * @param {Point[] | null} outline null: it is the model's again
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

/** Deletes a picture; a mole without pictures goes with its last one. @param {Picture} picture */
export const deletePicture = (picture) =>
  database.transact("readwrite", async (moles, pictures) => {
    pictures.delete(picture.id);
    if ((await settled(pictures.index("mole").count(picture.mole))) === 0) moles.delete(picture.mole);
  });

/** Turns the history off: the database goes, with all that is in it. */
export const deleteAll = () => database.remove();

// @ts-check
/**
 * The history on this device: moles and their pictures in IndexedDB. There is no database until someone asks
 * for one.
 */

/**
 * No probability is kept: pictures are compared, not scores.
 *
 * @typedef {{id: string, label: string, site: string, createdAt: number}} Mole
 * @typedef {{id: string, mole: string, takenAt: number, picture: Blob, decision: string, model: string}}
 *   Picture
 * @typedef {{moles: Mole[], pictures: Picture[]}} Content
 */

const NAME = "aiderm-history";
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
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Whether the history is on. @returns {Promise<boolean>} */
export async function isOn() {
  if (!("indexedDB" in window)) throw new TypeError("this browser keeps nothing");
  if (indexedDB.databases) return (await indexedDB.databases()).some(({ name }) => name === NAME);
  // older browsers: opening makes the database, so one that was just made is taken away again
  let fresh = false;
  const request = indexedDB.open(NAME);
  request.onupgradeneeded = () => {
    fresh = true;
    request.transaction?.abort();
  };
  try {
    (await settled(request)).close();
  } catch {
    // aborted above
  }
  return !fresh;
}

async function open() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("moles", { keyPath: "id" });
    request.result.createObjectStore("pictures", { keyPath: "id" }).createIndex("mole", "mole");
  };
  return settled(request);
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(moles: IDBObjectStore, pictures: IDBObjectStore) => T | Promise<T>} work
 * @returns {Promise<T>} once it is written
 */
async function transact(mode, work) {
  const database = await open();
  try {
    const transaction = database.transaction(["moles", "pictures"], mode);
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
    const result = await work(transaction.objectStore("moles"), transaction.objectStore("pictures"));
    await done;
    return result;
  } finally {
    database.close();
  }
}

/** Makes the database. */
export const turnOn = () => transact("readonly", () => {});

/** Everything, the oldest pictures first. @returns {Promise<Content>} */
export async function readAll() {
  const content = await transact("readonly", async (moles, pictures) => {
    const [all, shots] = await Promise.all([settled(moles.getAll()), settled(pictures.getAll())]);
    return { moles: all, pictures: shots };
  });
  content.pictures.sort((a, b) => a.takenAt - b.takenAt);
  content.moles.sort((a, b) => a.createdAt - b.createdAt);
  return content;
}

/** Adds or replaces, by id; all or nothing. @param {Content} content */
export const write = ({ moles, pictures }) =>
  transact("readwrite", (moleStore, pictureStore) => {
    for (const mole of moles) moleStore.put(mole);
    for (const picture of pictures) pictureStore.put(picture);
  });

/** Replaces a picture; a mole whose last picture moved to another one goes. @param {Picture} picture */
export const changePicture = (picture) =>
  transact("readwrite", async (moles, pictures) => {
    const before = await settled(pictures.get(picture.id));
    pictures.put(picture);
    if (!before || before.mole === picture.mole) return;
    if ((await settled(pictures.index("mole").count(before.mole))) === 0) moles.delete(before.mole);
  });

/** Deletes a picture; a mole without pictures goes with its last one. @param {Picture} picture */
export const deletePicture = (picture) =>
  transact("readwrite", async (moles, pictures) => {
    pictures.delete(picture.id);
    if ((await settled(pictures.index("mole").count(picture.mole))) === 0) moles.delete(picture.mole);
  });

/** Turns the history off: the database goes, with all that is in it. */
export async function deleteAll() {
  await settled(indexedDB.deleteDatabase(NAME));
}

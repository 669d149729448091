// @ts-check
/**
 * Keeps the pictures at hand and their answers over a reload, a crash, a phone that sleeps. They lie in this
 * browser's database, encrypted with a key that only this tab has: once it is closed nobody can read them.
 * What is older than a day goes, and what the reader removes goes at once.
 */

import { Problem } from "../api.js";

/** @typedef {import("./state.js").Item} Item */
/** @typedef {import("./state.js").Queue} Queue */
/** @typedef {import("./sending.js").Sending} Sending */
/** @typedef {{id: string, key: string}} Tab its number, and its key in base64 */
/**
 * `data` is encrypted: of `states` a JSON text, of `pictures` the bytes of the files that `states` tells of.
 *
 * @typedef {{id: string, tab: string, at: number, iv: Uint8Array, data: ArrayBuffer}} Row
 */

const NAME = "aiderm-queue";
const KEPT_MS = 24 * 60 * 60 * 1000;
const PAUSE_MS = 50;
const AT_A_TIME = 8;
const STORES = /** @type {const} */ (["pictures", "states"]);
const AES = "AES-GCM";

/** @param {IDBRequest<any>} request @returns {Promise<any>} */
const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(pictures: IDBObjectStore, states: IDBObjectStore) => T | Promise<T>} work
 * @returns {Promise<T>} once it is written; nothing stays open, so that the page can rest in the browser's
 *   memory
 */
async function transact(mode, work) {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    for (const store of STORES) request.result.createObjectStore(store, { keyPath: "id" });
  };
  const database = /** @type {IDBDatabase} */ (await settled(request));
  try {
    const transaction = database.transaction(STORES, mode);
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
    const result = await work(transaction.objectStore("pictures"), transaction.objectStore("states"));
    await done;
    return result;
  } finally {
    database.close();
  }
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
const toText = (bytes) => btoa(String.fromCharCode(...bytes));

/** @param {string} text */
const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** @param {unknown} value */
const textOf = (value) => new TextEncoder().encode(JSON.stringify(value));

/** @param {Tab} tab */
const keyOf = ({ key }) => crypto.subtle.importKey("raw", toBytes(key), AES, false, ["encrypt", "decrypt"]);

/** @param {Item} item @returns {File[]} what `base` and `file` are of, or what was refused */
function filesOf({ base, file, source }) {
  if (!base || !file) return [source];
  return base.file === file ? [file] : [base.file, file];
}

/** What cannot be read, as a folder, was refused. @param {Item} item */
const bytesOf = (item) => new Blob(filesOf(item)).arrayBuffer().catch(() => new ArrayBuffer(0));

/** What is told of an item beside its files; what was under way is to be sent again. @param {Item} item */
function stateOf(item) {
  const { name, digest, cut, thumb, viewable, concerns, problem, answer, mole, kept, signs, base } = item;
  const state = { sending: "waiting", preparing: "ready" }[/** @type {string} */ (item.state)] ?? item.state;
  return {
    ...{ name, digest, cut, thumb, viewable, concerns, mole, kept, state },
    ...{ baseDigest: base?.digest ?? "", signs: [...signs], sizes: filesOf(item).map(({ size }) => size) },
    types: filesOf(item).map(({ type }) => type),
    problem: problem && { ...problem, message: problem.message },
    answer: answer && { ...answer, at: answer.at.getTime() },
  };
}

/** The fields of an item whose change is written. @param {Item} item */
const signOf = (item) => [
  ...[item.state === "sending" ? "waiting" : item.state, item.file, item.digest, item.thumb, item.viewable],
  ...[item.concerns, item.problem, item.answer, item.mole, item.kept, item.signs.size],
];

/**
 * @param {ReturnType<typeof stateOf>} state
 * @param {ArrayBuffer} bytes
 * @returns {Partial<Item> & {source: File}}
 */
function itemOf({ sizes, types, baseDigest, signs, problem, answer, state, ...rest }, bytes) {
  let from = 0;
  const files = sizes.map((size, at) => {
    const file = new File([bytes.slice(from, from + size)], rest.name, { type: types[at] });
    from += size;
    return file;
  });
  const [source] = files;
  const prepared = state !== "refused" || Boolean(rest.digest);
  return {
    ...rest,
    source,
    base: prepared ? { file: source, digest: baseDigest } : null,
    file: prepared ? files[files.length - 1] : null,
    state: /** @type {import("./state.js").ItemState} */ (state),
    signs: new Set(signs),
    problem: problem && Object.assign(new Problem(problem.code, problem), { retryAt: problem.retryAt }),
    answer: answer && { ...answer, at: new Date(answer.at) },
  };
}

export class Kept {
  #queue;
  #sending;
  #failed;
  /** @type {Tab | null} */
  #tab = null;
  /** What was written of each item. @type {Map<Item, {id: string, sign: unknown[]}>} */
  #written = new Map();
  /** @type {number | undefined} */
  #timer;
  #last = Promise.resolve();
  #numbers = 0;
  #whole = "";

  /**
   * @param {Queue} queue
   * @param {Sending} sending
   * @param {() => void} failed called where something cannot be kept, as where there is no space left
   */
  constructor(queue, sending, failed) {
    this.#queue = queue;
    this.#sending = sending;
    this.#failed = failed;
    const soon = () => {
      this.#timer ??= setTimeout(() => this.flush(), PAUSE_MS);
    };
    queue.addEventListener("change", soon);
    // what is ticked beside an answer, and what was kept for longer
    for (const type of ["change", "kept"]) document.addEventListener(type, soon);
    sending.safe = () => this.flush();
    // a phone gives no second chance
    document.addEventListener("visibilitychange", () => document.hidden && this.flush());
  }

  /** Whether pictures are kept here: not without a secure connection, nor where a browser keeps nothing. */
  static get possible() {
    return Boolean(window.isSecureContext && window.crypto?.subtle && window.indexedDB);
  }

  /** Writes what changed. @returns {Promise<void>} once it is written */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#last = this.#last.then(() => this.#write()).catch(() => this.#failed());
    return this.#last;
  }

  async #write() {
    const { items } = this.#queue;
    if (items.length === 0) {
      await this.#clear();
      return;
    }
    this.#tab ??= await tabOf();
    const tab = this.#tab;
    const key = await keyOf(tab);
    await this.#removeGone();
    /** @param {string} id @param {BufferSource} data @returns {Promise<Row>} */
    const rowOf = async (id, data) => {
      const iv = crypto.getRandomValues(new Uint8Array(12));
      return {
        id,
        tab: tab.id,
        at: Date.now(),
        iv,
        data: await crypto.subtle.encrypt({ name: AES, iv }, key, data),
      };
    };
    await this.#writeStates(tab, rowOf);
    for (;;) {
      // a few at a time, and answers that came in the meantime after each
      const waiting = this.#queue.items.filter((item) => this.#written.get(item)?.sign[1] !== item.file);
      const some = waiting.filter((item) => filesOf(item).length > 0).slice(0, AT_A_TIME);
      if (some.length === 0) return;
      const rows = await Promise.all(
        some.map(async (item) => {
          const id = this.#written.get(item)?.id ?? `${tab.id}/${(this.#numbers += 1)}`;
          const picture = await rowOf(id, await bytesOf(item));
          return { item, id, file: item.file, picture, state: await rowOf(id, textOf(stateOf(item))) };
        }),
      );
      await transact("readwrite", (pictures, states) => {
        for (const { picture, state } of rows) {
          pictures.put(picture);
          states.put(state);
        }
      });
      for (const { item, id, file } of rows) this.#written.set(item, { id, sign: ["", file] });
      await this.#writeStates(tab, rowOf);
    }
  }

  /**
   * What changed of those whose pictures are written, and of the whole.
   *
   * @param {Tab} tab
   * @param {(id: string, data: BufferSource) => Promise<Row>} rowOf
   */
  async #writeStates(tab, rowOf) {
    const { items, selected } = this.#queue;
    /** @type {Promise<Row>[]} */
    const rows = [];
    for (const item of items) {
      const known = this.#written.get(item);
      const sign = signOf(item);
      if (!known || known.sign[1] !== item.file || sign.every((value, at) => value === known.sign[at]))
        continue;
      this.#written.set(item, { id: known.id, sign });
      rows.push(rowOf(known.id, textOf(stateOf(item))));
    }
    const order = items.map((item) => this.#written.get(item)?.id);
    const whole = {
      order,
      selected: items.findIndex((item) => item === selected),
      running: this.#sending.running,
    };
    const text = JSON.stringify(whole);
    if (text !== this.#whole) rows.push(rowOf(tab.id, textOf(whole)));
    if (rows.length === 0) return;
    this.#whole = text;
    const all = await Promise.all(rows);
    await transact("readwrite", (_, states) => {
      for (const row of all) states.put(row);
    });
  }

  /** What the reader removed goes at once. */
  async #removeGone() {
    const gone = [...this.#written].filter(([item]) => !this.#queue.items.includes(item));
    if (gone.length === 0) return;
    await transact("readwrite", (pictures, states) => {
      for (const [, { id }] of gone) {
        pictures.delete(id);
        states.delete(id);
      }
    });
    for (const [item] of gone) this.#written.delete(item);
  }

  /** Forgets all of this tab; where nothing of others is left, the database goes. */
  async #clear() {
    this.#written.clear();
    this.#whole = "";
    sessionStorage.removeItem(SESSION);
    const tab = this.#tab?.id;
    this.#tab = null;
    if (!tab) return;
    await removeRows((row) => row.tab === tab);
    if ((await dropOld()) === 0) await settled(indexedDB.deleteDatabase(NAME));
  }

  /**
   * Brings back what this tab had at hand, in its order.
   *
   * @returns {Promise<{running: boolean} | null>} whether pictures were on their way; null: there is nothing
   */
  async restore() {
    const tab = knownTab();
    await dropOld();
    if (!tab) return null;
    this.#tab = tab;
    const key = await keyOf(tab);
    const read = async (/** @type {Row} */ { iv, data }) =>
      crypto.subtle.decrypt({ name: AES, iv: new Uint8Array(iv) }, key, data);
    const json = async (/** @type {Row} */ row) => JSON.parse(new TextDecoder().decode(await read(row)));
    const own = IDBKeyRange.bound(`${tab.id}/`, `${tab.id}/\uffff`); // not the pictures of other tabs
    const [pictures, states] = await transact("readonly", (one, other) =>
      Promise.all([settled(one.getAll(own)), settled(other.getAll())]),
    );
    const rows = (/** @type {Row[]} */ found) => new Map(found.map((row) => [row.id, row]));
    const [bytes, told] = [rows(pictures), rows(states)];
    const all = told.get(tab.id);
    const whole = all ? await json(all) : { order: [], selected: 0, running: false };
    const ids = [...told.keys()].filter((id) => id.startsWith(`${tab.id}/`));
    const placed = (/** @type {string} */ id) =>
      whole.order.includes(id) ? whole.order.indexOf(id) : ids.length;
    ids.sort((one, other) => placed(one) - placed(other) || numberOf(one) - numberOf(other));
    for (const id of ids) {
      const [state, picture] = [told.get(id), bytes.get(id)];
      if (!state || !picture) continue;
      const item = this.#queue.bring(itemOf(await json(state), await read(picture)));
      this.#written.set(item, { id, sign: [] });
      this.#numbers = Math.max(this.#numbers, numberOf(id));
      // their files are those that were written
      this.#written.set(item, { id, sign: ["", item.file] });
    }
    const { items } = this.#queue;
    if (items.length > 0) this.#queue.select(items[whole.selected] ?? items[0]);
    return items.length > 0 ? { running: whole.running } : null;
  }
}

const SESSION = "aiderm-tab";

/**
 * Deletes what is older than a day, whose tab may be gone.
 * @returns {Promise<number>} how many rows are left
 */
export const dropOld = () => removeRows(({ at }) => Date.now() - at > KEPT_MS);

/** @param {string} id a tab's number may hold a slash too */
const numberOf = (id) => Number(id.slice(id.lastIndexOf("/") + 1));

/** @returns {Tab | null} */
function knownTab() {
  try {
    return JSON.parse(sessionStorage.getItem(SESSION) ?? "null");
  } catch {
    return null;
  }
}

/** That of this tab; made where there is none. @returns {Promise<Tab>} */
async function tabOf() {
  const known = knownTab();
  if (known) return known;
  const random = (/** @type {number} */ length) => toText(crypto.getRandomValues(new Uint8Array(length)));
  const tab = { id: random(9), key: random(32) };
  sessionStorage.setItem(SESSION, JSON.stringify(tab));
  return tab;
}

/**
 * @param {(row: Row) => boolean} isOver
 * @returns {Promise<number>} how many rows are left
 */
async function removeRows(isOver) {
  if (indexedDB.databases && !(await indexedDB.databases()).some(({ name }) => name === NAME)) return 0;
  return transact("readwrite", async (...stores) => {
    const counts = await Promise.all(stores.map((store) => removeFrom(store, isOver)));
    return counts[0] + counts[1];
  });
}

/**
 * One row at a time: all pictures at once may be a gigabyte.
 *
 * @param {IDBObjectStore} store
 * @param {(row: Row) => boolean} isOver
 * @returns {Promise<number>} how many rows are left
 */
const removeFrom = (store, isOver) =>
  new Promise((resolve, reject) => {
    let left = 0;
    const request = store.openCursor();
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (!cursor) {
        resolve(left);
        return;
      }
      if (isOver(cursor.value)) cursor.delete();
      else left += 1;
      cursor.continue();
    };
  });

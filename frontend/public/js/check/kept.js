// @ts-check
/**
 * Preserves the queue's pictures and answers across a reload, a crash or a sleeping phone. They are stored in
 * this browser's database, encrypted with a key that only this tab has: once it is closed, nobody can read
 * them. Rows older than a day are deleted, and what the reader removes is deleted at once.
 */

import { Database, settled } from "../database.js";
import { bytesOf, contentOf, filesOf, itemOf, signOf, stateOf } from "./kept-item.js";
import { forgetTab, knownTab, sealOf, thisTab } from "./tab.js";

/** @typedef {import("./state.js").Item} Item */
/** @typedef {import("./state.js").Queue} Queue */
/** @typedef {import("./sending.js").Sending} Sending */
/** @typedef {import("./tab.js").Tab} Tab */
/**
 * The sealed data is a JSON text in `states`, and in `pictures` the bytes of the files described there.
 *
 * @typedef {{id: string, tab: string, at: number} & import("./tab.js").Sealed} Row
 */

const KEPT_MS = 24 * 60 * 60 * 1000;
const PAUSE_MS = 50;
const AT_A_TIME = 8;

const database = new Database("aiderm-queue", { pictures: [], states: [] });

/** @param {unknown} value */
const textOf = (value) => new TextEncoder().encode(JSON.stringify(value));

export class Kept {
  #queue;
  #sending;
  #failed;
  /** @type {Tab | null} */
  #tab = null;
  /** What has been written for each item. @type {Map<Item, {id: string, sign: unknown[]}>} */
  #written = new Map();
  /** @type {number | undefined} */
  #timer;
  /**
   * Settles once the queue is restored. `running`: whether pictures were being sent; null: there was nothing
   * to restore.
   *
   * @type {Promise<{running: boolean} | null>}
   */
  restored;
  /** Whether restoring failed. Then nothing is written, as another reload may succeed. */
  #unread = false;
  /** The last write in line. The first waits for restoring, since the queue is still empty until then. */
  #last;
  #numbers = 0;
  #whole = "";

  /**
   * @param {Queue} queue
   * @param {Sending} sending
   * @param {() => void} failed called when something cannot be stored, for example without space
   */
  constructor(queue, sending, failed) {
    this.#queue = queue;
    this.#sending = sending;
    this.#failed = failed;
    this.restored = this.#restore();
    this.#last = this.restored.then(
      () => {},
      () => {
        this.#unread = true;
        failed();
      },
    );
    const soon = () => {
      this.#timer ??= setTimeout(() => this.flush(), PAUSE_MS);
    };
    queue.addEventListener("change", soon);
    // ticks beside an answer, and pictures saved in the history
    for (const type of ["change", "kept"]) document.addEventListener(type, soon);
    sending.safe = () => this.flush();
    // a phone may end the page without further events
    document.addEventListener("visibilitychange", () => document.hidden && this.flush());
  }

  /** Whether pictures can be kept: only on a secure connection and in a browser with storage. */
  static get possible() {
    return Boolean(window.isSecureContext && window.crypto?.subtle && window.indexedDB);
  }

  /** Writes all changes. @returns {Promise<void>} once it is written */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#last = this.#last.then(() => this.#write()).catch(() => this.#failed());
    return this.#last;
  }

  async #write() {
    if (this.#unread) return;
    const { items } = this.#queue;
    if (items.length === 0) {
      await this.#clear();
      return;
    }
    this.#tab ??= thisTab();
    const tab = this.#tab;
    const { seal } = await sealOf(tab);
    await this.#removeGone();
    /** @param {string} id @param {BufferSource} data @returns {Promise<Row>} */
    const rowOf = async (id, data) => ({ id, tab: tab.id, at: Date.now(), ...(await seal(data)) });
    await this.#writeStates(tab, rowOf);
    for (;;) {
      // a few at a time, each followed by answers that came in the meantime
      const waiting = this.#queue.items.filter(
        (item) => this.#written.get(item)?.sign[1] !== contentOf(item),
      );
      const some = waiting.filter((item) => filesOf(item).length > 0).slice(0, AT_A_TIME);
      if (some.length === 0) return;
      const rows = await Promise.all(
        some.map(async (item) => {
          const id = this.#written.get(item)?.id ?? `${tab.id}/${(this.#numbers += 1)}`;
          const picture = await rowOf(id, await bytesOf(item));
          return {
            item,
            id,
            content: contentOf(item),
            picture,
            state: await rowOf(id, textOf(stateOf(item))),
          };
        }),
      );
      await database.transact("readwrite", (pictures, states) => {
        for (const { picture, state } of rows) {
          pictures.put(picture);
          states.put(state);
        }
      });
      for (const { item, id, content } of rows) this.#written.set(item, { id, sign: ["", content] });
      await this.#writeStates(tab, rowOf);
    }
  }

  /**
   * Writes changed states of the items whose pictures are written, and of the queue as a whole.
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
      if (!known || known.sign[1] !== contentOf(item) || sign.every((value, at) => value === known.sign[at]))
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
    await database.transact("readwrite", (_, states) => {
      for (const row of all) states.put(row);
    });
  }

  /** Deletes what the reader removed. */
  async #removeGone() {
    const gone = [...this.#written].filter(([item]) => !this.#queue.items.includes(item));
    if (gone.length === 0) return;
    await database.transact("readwrite", (pictures, states) => {
      for (const [, { id }] of gone) {
        pictures.delete(id);
        states.delete(id);
      }
    });
    for (const [item] of gone) this.#written.delete(item);
  }

  /** Deletes everything of this tab, and the database if no other tab has anything in it. */
  async #clear() {
    this.#written.clear();
    this.#whole = "";
    forgetTab();
    const tab = this.#tab?.id;
    this.#tab = null;
    if (!tab) return;
    await removeRows((row) => row.tab === tab);
    if ((await dropOld()) === 0) await database.remove();
  }

  /** Restores this tab's queue, in its order. */
  async #restore() {
    await dropOld();
    const tab = knownTab();
    if (!tab) return null;
    this.#tab = tab;
    const { unseal } = await sealOf(tab);
    const json = async (/** @type {Row} */ row) => JSON.parse(new TextDecoder().decode(await unseal(row)));
    const own = IDBKeyRange.bound(`${tab.id}/`, `${tab.id}/\uffff`); // not the pictures of other tabs
    const [pictures, states] = await database.transact("readonly", (one, other) =>
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
    /** @type {Item[]} */
    const items = [];
    for (const id of ids) {
      const [state, picture] = [told.get(id), bytes.get(id)];
      if (!state || !picture) continue;
      const item = this.#queue.bring(itemOf(await json(state), await unseal(picture)));
      items.push(item);
      this.#numbers = Math.max(this.#numbers, numberOf(id));
      // its files are already stored
      this.#written.set(item, { id, sign: ["", contentOf(item)] });
    }
    if (items.length === 0) return null;
    this.#queue.select(items[whole.selected] ?? items[0]);
    return { running: /** @type {boolean} */ (whole.running) };
  }
}

/**
 * Deletes rows older than a day, whose tabs may be closed.
 * @returns {Promise<number>} how many rows are left
 */
export const dropOld = () => removeRows(({ at }) => Date.now() - at > KEPT_MS);

/** @param {string} id the tab's own id may contain a slash too */
const numberOf = (id) => Number(id.slice(id.lastIndexOf("/") + 1));

/**
 * @param {(row: Row) => boolean} isOver
 * @returns {Promise<number>} how many rows are left
 */
async function removeRows(isOver) {
  if (!(await database.exists())) return 0;
  return database.transact("readwrite", async (...stores) => {
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

// @ts-check
/** Databases of this browser (IndexedDB), each opened for one transaction only: nothing stays open. */

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
export const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** A database whose rows each have an `id`. It is made when it is first written to or read from. */
export class Database {
  #name;
  #stores;

  /**
   * @param {string} name
   * @param {Record<string, string[]>} stores the fields by which each store's rows are also found
   */
  constructor(name, stores) {
    this.#name = name;
    this.#stores = stores;
  }

  /** Whether it was made already. @returns {Promise<boolean>} */
  async exists() {
    if (!("indexedDB" in window)) throw new TypeError("this browser keeps nothing");
    if (indexedDB.databases) return (await indexedDB.databases()).some(({ name }) => name === this.#name);
    // older browsers: opening makes the database, so one that was just made is taken away again
    let fresh = false;
    const request = indexedDB.open(this.#name);
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

  /**
   * @template T
   * @param {IDBTransactionMode} mode
   * @param {(...stores: IDBObjectStore[]) => T | Promise<T>} work is given all stores, in their order
   * @returns {Promise<T>} once it is written: all or nothing
   */
  async transact(mode, work) {
    const request = indexedDB.open(this.#name, 1);
    request.onupgradeneeded = () => {
      for (const [store, fields] of Object.entries(this.#stores)) {
        const made = request.result.createObjectStore(store, { keyPath: "id" });
        for (const field of fields) made.createIndex(field, field);
      }
    };
    const database = await settled(request);
    try {
      const names = Object.keys(this.#stores);
      const transaction = database.transaction(names, mode);
      const done = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onerror = transaction.onabort = () => reject(transaction.error);
      });
      const result = await work(...names.map((name) => transaction.objectStore(name)));
      await done;
      return result;
    } finally {
      // so that the page can rest in the browser's memory
      database.close();
    }
  }

  /** Deletes it with all that is in it. */
  async remove() {
    await settled(indexedDB.deleteDatabase(this.#name));
  }
}

// @ts-check
/** IndexedDB databases, each opened only for the duration of one transaction. */

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

/** A database whose rows each have an `id`. It is created on the first write or read. */
export class Database {
  #name;
  #stores;

  /**
   * @param {string} name
   * @param {Record<string, string[]>} stores the indexed fields of each store
   */
  constructor(name, stores) {
    this.#name = name;
    this.#stores = stores;
  }

  /** Whether it exists. @returns {Promise<boolean>} */
  async exists() {
    if (!("indexedDB" in window)) throw new TypeError("this browser keeps nothing");
    if (indexedDB.databases) return (await indexedDB.databases()).some(({ name }) => name === this.#name);
    // older browsers: opening creates the database, so a new one is aborted
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
   * @param {(...stores: IDBObjectStore[]) => T | Promise<T>} work receives all stores, in order
   * @returns {Promise<T>} once everything is written, or rejects and writes nothing
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
      // an open one would keep the page out of the back/forward cache
      database.close();
    }
  }

  /** Deletes the database. */
  async remove() {
    await settled(indexedDB.deleteDatabase(this.#name));
  }
}

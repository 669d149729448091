// @ts-check
/** The pictures at hand: each with its state, one of them selected. */

/** @typedef {import("../api.js").Problem} Problem */
/** @typedef {import("../api.js").Assessment} Assessment */
/**
 * refused: not worth sending; ready: to be sent; waiting: its turn comes; sending: on the way or being judged;
 * result, problem: answered. `source` is the file as it came, `base` without metadata, `file` as it is to be sent (turned, cut).
 * `mole` is that of the history which it shows.
 *
 * @typedef {"refused" | "ready" | "waiting" | "sending" | "result" | "problem"} ItemState
 * @typedef {{
 *   id: number, name: string, source: File, base: File | null, file: File | null, url: string, state: ItemState, share: number, viewable: boolean,
 *   concerns: string[], problem: Problem | null, assessment: Assessment | null, answeredAt: Date | null, mole: string | null, kept: boolean,
 * }} Item
 */

let nextId = 1;

/** Event out: `change`, after whatever changed. */
export class Queue extends EventTarget {
  /** @type {Item[]} */
  items = [];
  /** @type {Item | null} */
  selected = null;

  /**
   * @param {File} source
   * @param {{file?: File | null, problem?: Problem | null, mole?: string | null}} content `file` as it is to be sent, or why it is not
   */
  add(source, { file = null, problem = null, mole = null }) {
    /** @type {Item} */
    const item = {
      id: nextId++, name: source.name, source, base: file, file, url: file ? URL.createObjectURL(file) : "", state: file ? "ready" : "refused",
      share: 0, viewable: false, concerns: [], problem, assessment: null, answeredAt: null, mole, kept: false,
    };
    this.items.push(item);
    return item;
  }

  /** @param {Item | null} item */
  select(item) {
    this.selected = item;
    this.#changed();
  }

  /**
   * @param {Item} item
   * @param {Partial<Item>} changes
   */
  update(item, changes) {
    if (!this.items.includes(item)) return; // removed meanwhile
    if (changes.file && changes.file !== item.file) {
      URL.revokeObjectURL(item.url);
      item.url = URL.createObjectURL(changes.file);
    }
    Object.assign(item, changes);
    this.#changed();
  }

  /** Takes one out; its neighbour is selected in its place. @param {Item} item */
  remove(item) {
    const at = this.items.indexOf(item);
    if (at < 0) return;
    this.items.splice(at, 1);
    URL.revokeObjectURL(item.url);
    if (this.selected === item) this.selected = this.items[Math.min(at, this.items.length - 1)] ?? null;
    this.#changed();
  }

  /** Those that could be sent now. */
  get sendable() {
    return this.items.filter(({ state }) => state === "ready");
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

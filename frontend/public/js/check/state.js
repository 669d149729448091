// @ts-check
/** The pictures at hand: each with its state, one of them selected. */

import { mayRetry } from "../api.js";

/** @typedef {import("../api.js").Problem} Problem */
/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {import("../intake/editor.js").Cut} Cut */
/**
 * `refused`: not worth sending; `preparing`: being cut; `ready`: to be sent; `waiting`: its turn comes;
 * `sending`: on its way or being assessed; `reading`: answered, but the reader is asked first; `result`,
 * `problem`: answered.
 *
 * @typedef {"refused" | "preparing" | "ready" | "waiting" | "sending" | "reading" | "result" | "problem"}
 *   ItemState
 */
/**
 * What came back, and the SHA-256 digest of the bytes that it was computed from.
 *
 * @typedef {{assessment: Assessment, digest: string, at: Date}} Answer
 */
/**
 * What is sent: a file and the SHA-256 digest of its bytes.
 * @typedef {{file: File, digest: string}} Prepared
 */
/**
 * `base` is the picture without metadata, `file` the one to be sent (turned, cut by `cut`), `url` and `thumb`
 * show it,
 * `sealed` is an answer that nobody may see before `reading` was said,
 * `mole` is the spot of the history that it shows, `signs` those of the self-check that were ticked.
 *
 * @typedef {{
 *   id: number,
 *   name: string,
 *   source: File,
 *   base: Prepared | null,
 *   file: File | null,
 *   digest: string,
 *   cut: Cut | null,
 *   url: string,
 *   thumb: string,
 *   state: ItemState,
 *   share: number,
 *   viewable: boolean,
 *   concerns: string[],
 *   problem: Problem | null,
 *   answer: Answer | null,
 *   sealed: Answer | null,
 *   reading: import("../reader/store.js").Reading | null,
 *   mole: string | null,
 *   kept: boolean,
 *   signs: Set<string>,
 * }} Item
 */

let nextId = 1;

/**
 * The assessment of the very bytes that are shown; that of any others is none.
 *
 * @param {Item | null} item
 * @returns {Assessment | null}
 */
export const assessmentOf = (item) =>
  item?.answer && item.answer.digest === item.digest ? item.answer.assessment : null;

/** Whether it could be sent now, for the first time or again. @param {Item} item */
const isSendable = ({ state, problem, file }) =>
  file !== null && (state === "ready" || (state === "problem" && problem !== null && mayRetry(problem)));

/** Event out: `change`, after whatever changed. */
export class Queue extends EventTarget {
  /** @type {Item[]} */
  items = [];
  /** @type {Item | null} */
  selected = null;

  /**
   * @param {File} source
   * @param {{prepared?: Prepared | null, problem?: Problem | null, mole?: string | null}} content what is to
   *   be sent, or why nothing is
   */
  add(source, { prepared = null, problem = null, mole = null }) {
    /** @type {Item} */
    const item = {
      id: nextId++,
      name: source.name,
      source,
      base: prepared,
      file: prepared?.file ?? null,
      digest: prepared?.digest ?? "",
      cut: null,
      url: prepared ? URL.createObjectURL(prepared.file) : "",
      thumb: "",
      state: prepared ? "ready" : "refused",
      share: 0,
      viewable: false,
      concerns: [],
      problem,
      answer: null,
      sealed: null,
      reading: null,
      mole,
      kept: false,
      signs: new Set(),
    };
    this.items.push(item);
    return item;
  }

  /**
   * Brings back an item as it was.
   * @param {Partial<Item> & {source: File}} was
   */
  bring(was) {
    const item = this.add(was.source, { prepared: was.base });
    URL.revokeObjectURL(item.url);
    Object.assign(item, was);
    // nothing is under way yet
    if (item.state === "waiting") item.state = "ready";
    item.url = item.file ? URL.createObjectURL(item.file) : "";
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
    if (!this.items.includes(item)) return; // it was removed in the meantime
    Object.assign(item, changes);
    this.#changed();
  }

  /** Shows a sealed answer. @param {Item} item @param {Item["reading"]} reading what was said before */
  unseal(item, reading) {
    this.update(item, { state: "result", answer: item.sealed, sealed: null, reading });
  }

  /**
   * Puts another picture in an item's place, as after cutting; what was said of the old one goes.
   *
   * @param {Item} item
   * @param {Prepared} prepared
   * @param {Cut | null} cut
   */
  replace(item, { file, digest }, cut) {
    if (!this.items.includes(item)) return;
    URL.revokeObjectURL(item.url);
    const url = URL.createObjectURL(file);
    const fresh = {
      answer: null,
      sealed: null,
      reading: null,
      problem: null,
      concerns: [],
      kept: false,
      thumb: "",
    };
    this.update(item, { file, digest, cut, url, state: "ready", ...fresh });
  }

  /**
   * Shows an item by another file, where the browser does not show its own.
   * @param {Item} item
   * @param {Blob} shown
   */
  showAs(item, shown) {
    if (!this.items.includes(item)) return;
    URL.revokeObjectURL(item.url);
    item.url = URL.createObjectURL(shown);
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

  /** Takes all out. */
  clear() {
    for (const { url } of this.items) URL.revokeObjectURL(url);
    this.items = [];
    this.select(null);
  }

  /** Those that could be sent now. */
  get sendable() {
    return this.items.filter(isSendable);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

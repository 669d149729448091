// @ts-check
/** The queue of pictures, each with its state, one of them selected. */

import { assessmentBeside, mayRetry } from "../api.js";

/** @typedef {import("../api.js").Problem} Problem */
/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {import("../intake/editor.js").Cut} Cut */
/**
 * `refused`: not worth sending; `preparing`: being cropped; `ready`: can be sent; `waiting`: queued to be
 * sent; `sending`: being uploaded or assessed; `reading`: answered, but the reader is asked first; `result`,
 * `problem`: answered.
 *
 * @typedef {"refused" | "preparing" | "ready" | "waiting" | "sending" | "reading" | "result" | "problem"}
 *   ItemState
 */
/**
 * The assessment, and the SHA-256 digest of the bytes that it was computed from.
 *
 * @typedef {{assessment: Assessment, digest: string, at: Date}} Answer
 */
/** @typedef {import("../lesion/shape.js").Point} Point */
/**
 * What is sent: a file and the SHA-256 digest of its bytes.
 * @typedef {{file: File, digest: string}} Prepared
 */
/** Another photograph of the same spot; `url` shows it. @typedef {Prepared & {url: string}} Another */
/**
 * `base`: the picture without metadata; `file`: the one to send (rotated and cropped as in `cut`); `url` and
 * `thumb` show it.
 * `sealed`: an answer hidden until the reader has given a `reading`.
 * `others`: further photographs of the same spot, assessed together with it; `photo`: index of the one shown,
 * 0 for the item's own.
 * `mole`: the spot of the history that it shows; `entry`: id of its entry there; `kept`: whether the entry is
 * complete. `signs`: ticked signs of the self-check. `outlines`: the lesion's outlines corrected by hand, in
 * pixels, by the photograph's digest.
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
 *   others: Another[],
 *   photo: number,
 *   state: ItemState,
 *   share: number,
 *   viewable: boolean,
 *   concerns: string[],
 *   problem: Problem | null,
 *   answer: Answer | null,
 *   sealed: Answer | null,
 *   reading: import("../reader/store.js").Reading | null,
 *   mole: string | null,
 *   entry: string,
 *   kept: boolean,
 *   outlines: Record<string, Point[]>,
 *   signs: Set<string>,
 * }} Item
 */

let nextId = 1;
/** Changes to an item whose photographs have changed. */
const UNANSWERED = /** @type {Partial<Item>} */ ({
  ...{ state: "ready", photo: 0, answer: null, sealed: null, reading: null, problem: null, kept: false },
});

/** The address of the shown photograph. @param {Item} item */
export const urlOf = ({ url, others, photo }) => others[photo - 1]?.url ?? url;

/** The digest of the shown photograph. @param {Item} item */
const shownDigest = ({ digest, others, photo }) => others[photo - 1]?.digest ?? digest;

/** The outline of the shown photograph, if it was corrected by hand. @param {Item | null} item */
export const correctedOf = (item) => item?.outlines[shownDigest(item)] ?? null;

/** @param {Item} item */
function revoke({ url, others }) {
  for (const address of [url, ...others.map((other) => other.url)]) URL.revokeObjectURL(address);
}

/**
 * The assessment, if it was computed from the bytes that are shown; else null.
 *
 * @param {Item | null} item
 * @returns {Assessment | null}
 */
export const assessmentOf = (item) =>
  item?.answer && item.answer.digest === item.digest ? item.answer.assessment : null;

/** Whether it can be sent now, for the first time or again. @param {Item} item */
const isSendable = ({ state, problem, file }) =>
  file !== null && (state === "ready" || (state === "problem" && problem !== null && mayRetry(problem)));

/** Event: `change`, after any change. */
export class Queue extends EventTarget {
  /** @type {Item[]} */
  items = [];
  /** @type {Item | null} */
  selected = null;

  /**
   * @param {File} source
   * @param {{prepared?: Prepared | null, problem?: Problem | null, mole?: string | null}} content what to
   *   send, or why nothing is sent
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
      others: [],
      photo: 0,
      state: prepared ? "ready" : "refused",
      share: 0,
      viewable: false,
      concerns: [],
      problem,
      answer: null,
      sealed: null,
      reading: null,
      mole,
      entry: "",
      kept: false,
      outlines: {},
      signs: new Set(),
    };
    this.items.push(item);
    return item;
  }

  /**
   * Restores an item.
   * @param {Partial<Item> & {source: File}} was
   */
  bring(was) {
    const item = this.add(was.source, { prepared: was.base });
    URL.revokeObjectURL(item.url);
    Object.assign(item, was);
    // no run has started yet
    if (item.state === "waiting") item.state = "ready";
    item.url = item.file ? URL.createObjectURL(item.file) : "";
    item.others = item.others.map((other) => ({ ...other, url: URL.createObjectURL(other.file) }));
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

  /** Shows a sealed answer. @param {Item} item @param {Item["reading"]} reading the reader's assessment */
  unseal(item, reading) {
    const { photo } = item;
    this.update(item, { state: "result", answer: item.sealed, sealed: null, reading, photo: 0 });
    if (photo > 0) this.showPhoto(item, photo);
  }

  /**
   * Replaces an item's picture, as after cropping; everything about the old one is discarded.
   *
   * @param {Item} item
   * @param {Prepared} prepared
   * @param {Cut | null} cut
   */
  replace(item, { file, digest }, cut) {
    if (!this.items.includes(item)) return;
    URL.revokeObjectURL(item.url);
    const url = URL.createObjectURL(file);
    this.update(item, { file, digest, cut, url, concerns: [], thumb: "", entry: "", ...UNANSWERED });
  }

  /** Replaces an item's further photographs. @param {Item} item @param {Another[]} others */
  setOthers(item, others) {
    if (!this.items.includes(item)) return;
    for (const other of item.others) if (!others.includes(other)) URL.revokeObjectURL(other.url);
    this.update(item, { others, ...UNANSWERED });
  }

  /** Shows one of an item's photographs. @param {Item} item @param {number} photo its index */
  showPhoto(item, photo) {
    const { answer } = item;
    if (item.sealed) this.update(item, { photo });
    const { together } = answer?.assessment ?? {};
    if (!answer || !together?.images[photo]?.assessment) return;
    const all = /** @type {import("../api.js").LesionAssessment} */ ({ ...answer.assessment, ...together });
    this.update(item, { photo, answer: { ...answer, assessment: assessmentBeside(all, photo) } });
  }

  /**
   * Stores a corrected outline of the shown photograph; the answer does not change.
   * @param {Item} item
   * @param {Point[] | null} points null: back to the model's outline
   */
  setOutline(item, points) {
    const shown = shownDigest(item);
    const others = Object.entries(item.outlines).filter(([digest]) => digest !== shown);
    this.update(item, { outlines: Object.fromEntries(points ? [...others, [shown, points]] : others) });
  }

  /**
   * Shows another file for an item whose own the browser cannot show.
   * @param {Item} item
   * @param {Blob} shown
   */
  showAs(item, shown) {
    if (!this.items.includes(item)) return;
    URL.revokeObjectURL(item.url);
    item.url = URL.createObjectURL(shown);
  }

  /** Removes an item and selects its neighbour. @param {Item} item */
  remove(item) {
    const at = this.items.indexOf(item);
    if (at < 0) return;
    this.items.splice(at, 1);
    revoke(item);
    if (this.selected === item) this.selected = this.items[Math.min(at, this.items.length - 1)] ?? null;
    this.#changed();
  }

  /** Removes all items. */
  clear() {
    this.items.forEach(revoke);
    this.items = [];
    this.select(null);
  }

  /** The items that can be sent now. */
  get sendable() {
    return this.items.filter(isSendable);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

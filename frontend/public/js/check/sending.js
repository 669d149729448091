// @ts-check
/**
 * Sends pictures one after another. A run of several reports failures and goes on; if the server asks it to
 * wait, it waits and sends the picture again.
 */

import { Problem, health, mayRetry, predict, predictLesion } from "../api.js";
import { digestOf } from "../intake/digest.js";

/** @typedef {import("./state.js").Item} Item */
/** @typedef {import("./state.js").Queue} Queue */

/** Codes that would recur with the next picture. */
const FOR_ALL = new Set([
  "unauthorized",
  "forbidden",
  "unknown_model",
  "not_found",
  "method_not_allowed",
  "origin_not_allowed",
]);
/** Seconds before each retry if the server gives no Retry-After. */
const PAUSES = [1, 4];
/** How often one picture waits for Retry-After, which nginx sends to each of many visitors. */
const MOST_WAITS = 30;
/** Longest Retry-After to wait for, in seconds. */
const LONGEST_WAIT = 120;
/** Codes when nothing can be reached, or when no model answers behind what can. */
const LOST = new Set(["network", "timeout", "no_model"]);
/** Seconds between two checks for an unreachable service. */
const ASK_AGAIN = 3;
/** Seconds to wait for pictures to be stored before they are sent. */
const LONGEST_SAVING = 10;
/** A run ends after this many failures in a row that are not the pictures' fault. */
const MOST_FAILURES = 3;

/**
 * @param {number} seconds
 * @param {AbortSignal} signal
 * @param {string} [event] of the window that also ends it
 * @returns {Promise<void>} resolves when aborted, too
 */
const pause = (seconds, signal, event) =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      if (event) window.removeEventListener(event, done);
      resolve();
    };
    const timer = setTimeout(done, seconds * 1000);
    signal.addEventListener("abort", done);
    if (event) window.addEventListener(event, done);
    if (signal.aborted) done();
  });

/**
 * Reads a file once, so that the digested bytes are the ones that are sent.
 * @param {import("./state.js").Prepared} picture
 */
async function checked({ file, digest }) {
  const bytes = await file.arrayBuffer().catch(() => Promise.reject(new Problem("unreadable_file")));
  if ((await digestOf(bytes)) !== digest) throw new Problem("unreadable_file");
  return new Blob([bytes], { type: file.type });
}

/** Whether the service can be reached and has a model. */
async function isThere() {
  if (!navigator.onLine) return false;
  return health().then(
    ({ status }) => status !== "unavailable",
    () => false,
  );
}

/**
 * Events: `progress` after each step; `answered` and `failed` with `{item, alone}`, where `alone` means that
 * the run has one picture; `lost` when the service becomes unreachable; `cancelled` and `end`, both with
 * `{items, alone}`.
 */
export class Sending extends EventTarget {
  #queue;
  /** The items of this run. @type {Set<Item>} */
  #run = new Set();
  /** Ends the run. @type {AbortController | null} */
  #stop = null;
  /** Aborts the current request. @type {{item: Item, controller: AbortController} | null} */
  #current = null;
  /** How often each item was sent. @type {Map<Item, number>} */
  #tries = new Map();
  /** When the run continues, in milliseconds since 1970, while the server asks it to wait. */
  waitingUntil = 0;
  /** Whether the run waits for an unreachable service. */
  lost = false;
  /** Stores the pictures; a run of several waits for it briefly before sending. */
  safe = async () => {};
  /** Whether answers are hidden from the reader at first. */
  seals = () => false;

  /** @param {Queue} queue */
  constructor(queue) {
    super();
    this.#queue = queue;
  }

  get running() {
    return this.#stop !== null;
  }

  /** Whether this run has one picture. */
  get alone() {
    return this.#run.size <= 1;
  }

  /** The number of pictures of this run, and how many are done. */
  get progress() {
    const items = [...this.#run].filter((item) => this.#queue.items.includes(item));
    return {
      total: items.length,
      done: items.filter(({ state }) => ["reading", "result", "problem"].includes(state)).length,
    };
  }

  /** The picture being sent. */
  get item() {
    return this.#current?.item ?? null;
  }

  /** Starts a run, or adds to the current one. @param {Item[]} items */
  start(items) {
    for (const item of items) {
      if (!item.file || ["preparing", "waiting", "sending"].includes(item.state)) continue;
      this.#run.add(item);
      this.#tries.delete(item);
      this.#queue.update(item, { state: "waiting", problem: null });
    }
    if (!this.running && this.#run.size > 0) this.#work();
  }

  /** Ends the run; the remaining pictures can be sent later. */
  cancel() {
    this.#stop?.abort();
    this.#current?.controller.abort();
  }

  /** Drops a picture that was removed or changed; the run goes on. @param {Item} item */
  drop(item) {
    this.#run.delete(item);
    if (this.#current?.item === item) this.#current.controller.abort();
  }

  async #work() {
    const stop = new AbortController();
    this.#stop = stop;
    let failures = 0;
    this.#tell("progress");
    if (!this.alone) await Promise.race([this.safe(), pause(LONGEST_SAVING, stop.signal)]);
    for (let item = this.#next(); item && !stop.signal.aborted; item = this.#next()) {
      const problem = await this.#send(item);
      if (!problem || stop.signal.aborted || !this.#run.has(item)) {
        failures = 0;
        continue;
      }
      if (!this.alone && LOST.has(problem.code) && (await this.#awaitService(item, stop.signal))) continue;
      const seconds = this.#secondsUntilAgain(item, problem);
      if (seconds !== null) {
        this.#queue.update(item, { state: "waiting" });
        await this.#wait(seconds, stop.signal);
        continue;
      }
      this.#queue.update(item, { state: "problem", problem });
      this.#tell("failed", { item, alone: this.alone });
      failures = mayRetry(problem) ? failures + 1 : 0;
      if (FOR_ALL.has(problem.code) || failures >= MOST_FAILURES) break;
    }
    const items = [...this.#run];
    const alone = this.alone;
    this.#stop = null;
    this.#run = new Set();
    this.#tries.clear();
    for (const item of items) if (item.state === "waiting") this.#queue.update(item, { state: "ready" });
    this.#tell(stop.signal.aborted ? "cancelled" : "end", { items, alone });
  }

  /**
   * Waits until the service can be reached again, however long that takes.
   *
   * @param {Item} item to be sent again then
   * @param {AbortSignal} signal
   * @returns {Promise<boolean>} whether it was unreachable; if not, the failure is the picture's
   */
  async #awaitService(item, signal) {
    while (!signal.aborted && !(await isThere())) {
      if (!this.lost) {
        this.lost = true;
        this.#queue.update(item, { state: "waiting" });
        this.#tell("lost");
      }
      this.#tell("progress");
      await pause(ASK_AGAIN, signal, "online");
    }
    const waited = this.lost;
    this.lost = false;
    if (waited) this.#tries.delete(item);
    this.#tell("progress");
    return waited;
  }

  #next() {
    return this.#queue.items.find((item) => item.state === "waiting" && this.#run.has(item));
  }

  /**
   * @param {Item} item
   * @param {Problem} problem
   * @returns {number | null} null: do not send it again
   */
  #secondsUntilAgain(item, problem) {
    // for a single picture, the page shows the problem and a retry button
    if (this.alone || !mayRetry(problem) || FOR_ALL.has(problem.code)) return null;
    const tries = this.#tries.get(item) ?? 1;
    if (problem.retryAfter === null) return PAUSES[tries - 1] ?? null;
    return tries <= MOST_WAITS && problem.retryAfter <= LONGEST_WAIT
      ? Math.max(0.2, problem.retryAfter)
      : null;
  }

  /** @param {number} seconds @param {AbortSignal} signal */
  async #wait(seconds, signal) {
    this.waitingUntil = Date.now() + seconds * 1000;
    this.#tell("progress");
    await pause(seconds, signal);
    this.waitingUntil = 0;
    this.#tell("progress");
  }

  /**
   * @param {Item} item
   * @returns {Promise<Problem | null>} why there is no answer; null if there is one, or it was cancelled
   */
  async #send(item) {
    const { file, digest, others } = item;
    if (!file) return null;
    const controller = new AbortController();
    this.#current = { item, controller };
    this.#tries.set(item, (this.#tries.get(item) ?? 0) + 1);
    this.#queue.update(item, { state: "sending", share: 0 });
    this.#tell("progress");
    try {
      const files = await Promise.all([{ file, digest }, ...others].map(checked));
      const options = {
        signal: controller.signal,
        onProgress: (/** @type {number} */ share) => this.#queue.update(item, { share }),
      };
      const assessment = await (files.length > 1
        ? predictLesion(files, options)
        : predict(files[0], options));
      const answer = { assessment, digest, at: new Date() };
      this.#queue.update(
        item,
        this.seals() ? { state: "reading", sealed: answer } : { state: "result", answer },
      );
      this.#tell("answered", { item, alone: this.alone });
      return null;
    } catch (error) {
      if (error instanceof Problem) return error;
      if (this.#run.has(item)) this.#queue.update(item, { state: "ready" }); // cancelled
      return null;
    } finally {
      this.#current = null;
      this.#tell("progress");
    }
  }

  /** @param {string} type @param {object} [detail] */
  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

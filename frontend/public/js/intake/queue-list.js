// @ts-check
/**
 * <derm-queue>: lists several pictures with thumbnails and their state in words. Once they are answered, its
 * heading summarises them, and the most suspicious come first.
 */

import { assessmentOf } from "../check/state.js";
import { button, el, icon } from "../dom.js";
import { t } from "../i18n.js";

/** @typedef {import("../check/state.js").Queue} Queue */
/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("../check/sending.js").Sending} Sending */
/**
 * @typedef {{
 *   row: HTMLElement,
 *   choose: HTMLButtonElement,
 *   image: HTMLImageElement,
 *   state: HTMLElement,
 *   remove: HTMLElement,
 *   name: HTMLElement,
 * }} Row
 */

/** Pictures to look at come before those with low suspicion. @type {(string | undefined)[]} */
const ORDER = ["suspicious", "uncertain", "rejected", undefined, "low_suspicion"];
const COUNTED = /** @type {const} */ (["uncertain", "low_suspicion", "rejected"]);

/** The most suspicious first. @param {Item} one @param {Item} other */
function byUrgency(one, other) {
  const [a, b] = [assessmentOf(one), assessmentOf(other)];
  const step = ORDER.indexOf(a?.decision) - ORDER.indexOf(b?.decision);
  return step || (b?.malignancy?.probability ?? 0) - (a?.malignancy?.probability ?? 0) || one.id - other.id;
}

/** @param {Item[]} items */
const sorted = (items) => [...items].sort(byUrgency);

/** The picture to look at first. @param {Item[]} items @returns {Item | undefined} */
export const mostUrgent = (items) => sorted(items)[0];

/**
 * Methods: `show`, `focusCurrent`, `focusHeading`, `focusAssessAll`, `focusCancel`. Events: `select` and
 * `remove` with `{item: Item}`; `assess-all`, `cancel-run`, `remove-all`, `table`.
 */
export class DermQueue extends HTMLElement {
  /** @type {Map<number, Row>} */
  #rows = new Map();
  #title = el("h2", { id: "queue-title", tabindex: "-1" });
  #counts = el("p", { class: "queue-counts" });
  #list = el("ul", { class: "queue", "aria-labelledby": "queue-title" });
  #progressText = el("label", { for: "run-bar" });
  #bar = /** @type {HTMLProgressElement} */ (el("progress", { id: "run-bar", max: 1 }));
  #assessAll = button("", () => this.#tell("assess-all"), "primary", { id: "assess-all" });
  #cancel = button("", () => this.#tell("cancel-run"), "", { id: "cancel-run" });
  #table = button("", () => this.#tell("table"), "", { id: "show-table" });
  #removeAll = button("", () => this.#tell("remove-all"), "", { id: "remove-all" });
  #run = el("div", { class: "progress run" }, this.#progressText, this.#bar, this.#cancel);
  #actions = el("div", { class: "actions run" }, this.#assessAll, this.#table, this.#removeAll);
  /** @type {number | undefined} */
  #timer;

  connectedCallback() {
    this.replaceChildren(this.#title, this.#counts, this.#run, this.#list, this.#actions);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  /** @param {Queue} queue @param {Sending} sending */
  show(queue, sending) {
    const { items, selected, sendable } = queue;
    this.#showSummary(items, sending.running);
    this.#showRun(sending);
    this.#assessAll.hidden = sendable.length === 0;
    this.#assessAll.textContent = t("check.assessAll", { count: sendable.length });
    this.#assessAll.classList.toggle("primary", !sending.running);
    this.#cancel.textContent = t("common.cancel");
    this.#table.hidden = sending.running || !items.some((item) => assessmentOf(item));
    this.#table.textContent = t("results.open");
    this.#removeAll.textContent = t("queue.removeAll");
    for (const [id, { row }] of this.#rows) {
      if (items.some((item) => item.id === id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    for (const item of items) this.#showRow(item, item === selected);
    if (!sending.running) this.#arrange(sorted(items));
  }

  /** Shows the results once there are any. @param {Item[]} items @param {boolean} running */
  #showSummary(items, running) {
    const decisions = items.map((item) => assessmentOf(item)?.decision);
    const count = (/** @type {string} */ decision) => decisions.filter((given) => given === decision).length;
    const failed = items.filter(({ state }) => state === "problem" || state === "refused").length;
    const left = items.filter(({ state }) => ["ready", "preparing", "waiting"].includes(state)).length;
    const answered = !running && decisions.some(Boolean);
    const total = items.length;
    this.#title.textContent = answered
      ? t("queue.summary", { count: count("suspicious"), total })
      : t("queue.title", { count: total });
    this.#title.dataset.suspicious = String(answered && count("suspicious") > 0);
    const parts = [
      ...COUNTED.map((decision) => [t(`verdict.${decision}.short`), count(decision)]),
      [t("queue.state.problem"), failed],
      [t("queue.state.ready"), left],
      [t("queue.state.reading"), items.filter(({ state }) => state === "reading").length],
    ].filter(([, several]) => several);
    this.#counts.hidden = !answered;
    const line = parts.map(([name, several]) => t("queue.counted", { name, count: several }));
    this.#counts.textContent = line.join(" · ");
  }

  /** @param {Sending} sending */
  #showRun(sending) {
    clearInterval(this.#timer);
    this.#run.hidden = !sending.running;
    if (!sending.running) return;
    const { done, total } = sending.progress;
    const tick = () => {
      const seconds = Math.ceil((sending.waitingUntil - Date.now()) / 1000);
      const pausing = seconds > 0 ? t("check.pausing", { count: seconds }) : "";
      const words = sending.lost ? t("check.lost") : pausing;
      this.#progressText.textContent = [t("check.saidProgress", { done, total }), words].join(" ").trim();
    };
    this.#bar.value = total ? (done + 0.5 * (sending.item?.share ?? 0)) / total : 0;
    tick();
    if (sending.waitingUntil) this.#timer = setInterval(tick, 500);
  }

  /** Puts the rows into this order; the focus stays where it is. @param {Item[]} items */
  #arrange(items) {
    const rows = items.map(({ id }) => /** @type {Row} */ (this.#rows.get(id)).row);
    if (rows.every((row, at) => this.#list.children[at] === row)) return;
    const focused = /** @type {HTMLElement | null} */ (this.#list.querySelector(":focus"));
    this.#list.replaceChildren(...rows);
    focused?.focus({ preventScroll: true });
  }

  /**
   * The picture `step` rows below the selected one; undefined beyond the ends of the list.
   *
   * @param {Queue} queue
   * @param {number} step
   */
  beside({ items, selected }, step) {
    const rows = [...this.#list.children];
    const at = rows.findIndex((row) => row === this.#rows.get(selected?.id ?? 0)?.row);
    return items.find(({ id }) => at >= 0 && this.#rows.get(id)?.row === rows[at + step]);
  }

  /** Moves the focus to the selected picture. */
  focusCurrent() {
    const current = /** @type {HTMLElement | null} */ (this.querySelector("[aria-current=true]"));
    current?.focus();
  }

  /** Moves the focus to the summary, so that it is read first. */
  focusHeading() {
    this.#list.scrollTop = 0;
    this.#title.focus();
  }

  focusAssessAll() {
    this.#assessAll.focus();
  }

  focusCancel() {
    this.#cancel.focus();
  }

  get summary() {
    return [this.#title.textContent, this.#counts.textContent].join(". ");
  }

  /** @param {Item} item @param {boolean} selected */
  #showRow(item, selected) {
    const parts = this.#rows.get(item.id) ?? this.#newRow(item);
    const name = item.name || t("queue.unnamed");
    parts.row.dataset.state = item.state;
    parts.row.dataset.decision = assessmentOf(item)?.decision ?? "";
    parts.choose.setAttribute("aria-current", String(selected));
    parts.name.textContent = name;
    parts.state.textContent = stateWords(item);
    parts.remove.setAttribute("aria-label", t("queue.remove", { name }));
    parts.image.hidden = !item.thumb;
    if (item.thumb && parts.image.src !== item.thumb) parts.image.src = item.thumb;
  }

  /** @param {Item} item @returns {Row} */
  #newRow(item) {
    const image = /** @type {HTMLImageElement} */ (el("img", { alt: "", decoding: "async", hidden: true }));
    const name = el("span", { class: "queue-name", dir: "auto" });
    const state = el("span", { class: "queue-state" });
    const thumb = el("span", { class: "queue-thumb" }, image);
    const words = el("span", { class: "queue-words" }, name, state);
    const choose = button("", () => this.#tell("select", { item }));
    choose.className = "queue-choose";
    choose.replaceChildren(thumb, words);
    const cross = icon("", "0 0 20 20", { d: "M5 5l10 10M15 5 5 15" });
    const remove = button("", () => this.#tell("remove", { item }));
    remove.className = "queue-remove";
    remove.replaceChildren(cross);
    const row = el("li", {}, choose, remove);
    this.#list.append(row);
    const parts = { row, choose, image, state, remove, name };
    this.#rows.set(item.id, parts);
    return parts;
  }

  /** @param {string} type @param {object} [detail] */
  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @param {Item} item */
function stateWords(item) {
  const assessment = assessmentOf(item);
  if (item.state === "result" && assessment) return t(`verdict.${assessment.decision}.short`);
  return t(`queue.state.${item.state === "sending" && item.share >= 1 ? "judging" : item.state}`);
}

customElements.define("derm-queue", DermQueue);

// @ts-check
/** <derm-queue>: several pictures as a row of thumbnails, each with its state in words. */

import { el, icon } from "../dom.js";
import { t } from "../i18n.js";

/** @typedef {import("./queue.js").Queue} Queue */
/** @typedef {import("./queue.js").Item} Item */

/** Method in: `show`. Events out: `select` and `remove` with `{item: Item}`. */
export class DermQueue extends HTMLElement {
  /** @type {Map<number, {row: HTMLElement, choose: HTMLButtonElement, image: HTMLImageElement, state: HTMLElement, remove: HTMLElement, name: HTMLElement}>} */
  #rows = new Map();
  #title = el("h3", { id: "queue-title" });
  #list = el("ul", { class: "queue", "aria-labelledby": "queue-title" });

  connectedCallback() {
    this.replaceChildren(this.#title, this.#list);
  }

  /** @param {Queue} queue */
  show({ items, selected }) {
    this.hidden = items.length < 2;
    this.#title.textContent = t("queue.title", { count: items.length });
    for (const [id, { row }] of this.#rows) {
      if (items.some((item) => item.id === id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    for (const item of items) {
      const parts = this.#rows.get(item.id) ?? this.#newRow(item);
      const words = stateWords(item);
      parts.row.dataset.state = item.state;
      parts.row.dataset.decision = item.assessment?.decision ?? "";
      parts.choose.setAttribute("aria-current", String(item === selected));
      parts.name.textContent = item.name || t("queue.unnamed");
      parts.state.textContent = words;
      parts.remove.setAttribute("aria-label", t("queue.remove", { name: item.name || t("queue.unnamed") }));
      if (parts.image.src !== item.url && item.url) parts.image.src = item.url;
    }
  }

  /** Moves focus to the selected picture. */
  focusCurrent() {
    const current = /** @type {HTMLElement | null} */ (this.querySelector("[aria-current=true]"));
    current?.focus();
  }

  /** @param {Item} item */
  #newRow(item) {
    const image = /** @type {HTMLImageElement} */ (el("img", { alt: "", decoding: "async" }));
    image.addEventListener("error", () => (image.hidden = true));
    image.addEventListener("load", () => (image.hidden = false));
    image.hidden = true;
    const name = el("span", { class: "queue-name" });
    const state = el("span", { class: "queue-state" });
    const tell = (/** @type {string} */ kind) => () => this.dispatchEvent(new CustomEvent(kind, { detail: { item } }));
    const choose = /** @type {HTMLButtonElement} */ (
      el("button", { type: "button", class: "queue-choose", onclick: tell("select") }, el("span", { class: "queue-thumb" }, image), el("span", { class: "queue-words" }, name, state))
    );
    const remove = el("button", { type: "button", class: "queue-remove", onclick: tell("remove") }, icon("", "0 0 20 20", { d: "M5 5l10 10M15 5 5 15" }));
    const row = el("li", {}, choose, remove);
    this.#list.append(row);
    const parts = { row, choose, image, state, remove, name };
    this.#rows.set(item.id, parts);
    return parts;
  }
}

/** @param {Item} item */
function stateWords({ state, assessment, share }) {
  if (state === "result" && assessment) return t(`verdict.${assessment.decision}.short`);
  return t(`queue.state.${state === "sending" && share >= 1 ? "judging" : state}`);
}

customElements.define("derm-queue", DermQueue);

// @ts-check
/**
 * <derm-reader>: asks a second reader for an assessment before the model's answer is shown, and again after.
 */

import { button, el } from "../dom.js";
import { percent, t } from "../i18n.js";
import { newId } from "../history/store.js";
import { readerLabel } from "./mode.js";
import { showReaderSettings } from "./settings.js";
import { keep, OPINIONS, readings } from "./store.js";

/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("./store.js").Said} Said */
/** @typedef {import("./store.js").Reading} Reading */

const DEFAULT_PERCENT = 50;

/**
 * Measures how long an item was visible, in seconds, summed over visits.
 */
class Clock {
  #sum = 0;
  #since = 0;

  run() {
    this.#since ||= performance.now();
  }

  stop() {
    if (this.#since) this.#sum += performance.now() - this.#since;
    this.#since = 0;
  }

  get seconds() {
    return (this.#sum + (this.#since ? performance.now() - this.#since : 0)) / 1000;
  }
}

/**
 * Fields for a decision and the reader's confidence.
 *
 * @param {Said | null} said the previous assessment
 * @returns {{fields: HTMLElement[], read: () => Omit<Said, "seconds"> | null}} `read` returns null if no
 *   decision was chosen; the browser then says so
 */
function opinionFields(said) {
  const inputs = OPINIONS.map((opinion) => {
    const input = /** @type {HTMLInputElement} */ (
      el("input", {
        ...{ type: "radio", name: "opinion", value: opinion },
        ...{ required: true, checked: said?.decision === opinion },
      })
    );
    return { opinion, input, label: el("label", { class: "switch" }, input, t(`reader.${opinion}`)) };
  });
  const sure = Math.round(100 * (said?.confidence ?? DEFAULT_PERCENT / 100));
  const slider = /** @type {HTMLInputElement} */ (
    el("input", { type: "range", min: 0, max: 100, step: 5, value: sure })
  );
  const output = el("output", {}, percent(sure / 100));
  const write = () => {
    const words = percent(slider.valueAsNumber / 100);
    output.textContent = words;
    slider.setAttribute("aria-valuetext", words);
  };
  slider.addEventListener("input", write);
  write();
  return {
    fields: [
      el(
        "fieldset",
        { class: "opinions" },
        el("legend", {}, t("reader.question")),
        inputs.map(({ label }) => label),
      ),
      el("label", { class: "slider" }, el("span", {}, t("reader.sure")), slider, output),
    ],
    read: () => {
      const chosen = inputs.find(({ input }) => input.checked);
      if (!chosen) inputs[0].input.reportValidity();
      return chosen ? { decision: chosen.opinion, confidence: slider.valueAsNumber / 100 } : null;
    },
  };
}

/** Event: `commit` with `{item, reading}`, once that is stored. */
export class DermReader extends HTMLElement {
  /** @type {Map<Item, Clock>} */
  #clocks = new Map();
  /** The values that the form was built from. @type {unknown[]} */
  #shown = [];
  #said = el("p", { role: "status", class: "said" });

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#runClock());
  }

  /** Keeps what is filled in if nothing changed. @param {Item | null} item */
  show(item) {
    this.hidden = !item || (item.state !== "reading" && !item.reading);
    const now = this.hidden || !item ? [] : [item, item.state, item.reading, document.documentElement.lang];
    if (now.length === this.#shown.length && now.every((value, at) => value === this.#shown[at])) return;
    this.#shown = now;
    this.#runClock();
    if (this.hidden || !item) this.replaceChildren();
    else if (item.state === "reading") this.#askBefore(item);
    else if (item.reading && !item.reading.after) this.#askAfter(item, item.reading);
    else this.#thank();
  }

  focusHeading() {
    this.querySelector("h2")?.focus();
  }

  /** Runs only the clock of the visible item. */
  #runClock() {
    const [shown] = /** @type {[Item | undefined]} */ (this.#shown);
    for (const clock of this.#clocks.values()) clock.stop();
    if (!shown || document.hidden) return;
    const clock = this.#clocks.get(shown) ?? new Clock();
    this.#clocks.set(shown, clock);
    clock.run();
  }

  /** Returns the seconds so far and restarts the clock. @param {Item} item */
  #secondsOf(item) {
    const seconds = this.#clocks.get(item)?.seconds ?? 0;
    this.#clocks.delete(item);
    return seconds;
  }

  /** @param {Item} item */
  #askBefore(item) {
    const name = /** @type {HTMLInputElement} */ (
      el("input", { type: "text", maxlength: 60, autocomplete: "off", required: true })
    );
    readings().then(
      (all) => (name.value ||= String(all.length + 1)),
      () => {},
    );
    const opinion = opinionFields(null);
    const commit = async () => {
      const { sealed } = item;
      if (!sealed || !name.reportValidity()) return;
      const said = opinion.read();
      if (!said) return;
      const { model, decision, malignancy } = sealed.assessment;
      const reading = {
        ...{ id: newId(), at: Date.now(), reader: readerLabel() ?? "", case: name.value.trim() },
        before: { ...said, seconds: this.#secondsOf(item) },
        ...{ decision, probability: malignancy?.probability ?? null, after: null },
        model: `${model.name} ${model.version}`,
        photographs: 1 + item.others.length,
      };
      await this.#keep(item, reading);
    };
    this.#fill(
      t("reader.first"),
      el("p", { class: "soft" }, t("reader.lead")),
      el("label", { class: "field" }, t("reader.case"), name),
      opinion.fields,
      this.#actions(button(t("reader.commit"), commit, "primary")),
    );
  }

  /** @param {Item} item @param {Reading} reading */
  #askAfter(item, reading) {
    const opinion = opinionFields(reading.before);
    const confirm = () => {
      const said = opinion.read();
      if (!said) return;
      this.#keep(item, { ...reading, after: { ...said, seconds: this.#secondsOf(item) } });
    };
    const { decision, confidence } = reading.before;
    const before = { decision: t(`reader.${decision}`), sure: percent(confidence) };
    this.#fill(
      t("reader.then"),
      el("p", {}, t("reader.before", before)),
      opinion.fields,
      this.#actions(button(t("reader.confirm"), confirm, "primary")),
    );
  }

  #thank() {
    this.#fill(t("reader.title"), el("p", {}, t("reader.kept")), this.#actions());
  }

  /** @param {Item} item @param {Reading} reading */
  async #keep(item, reading) {
    try {
      await keep(reading);
    } catch {
      this.#said.textContent = t("reader.failed");
      return;
    }
    this.dispatchEvent(new CustomEvent("commit", { detail: { item, reading } }));
  }

  /** @param {string} title @param {...(import("../dom.js").Child | HTMLElement[])} content */
  #fill(title, ...content) {
    this.#said.textContent = "";
    const heading = el("h2", { id: "reader-title", tabindex: "-1" }, title);
    this.replaceChildren(
      el("section", { class: "card reader", "aria-labelledby": "reader-title" }, heading, ...content),
    );
  }

  /** @param {...HTMLElement} first */
  #actions(...first) {
    const settings = button(t("reader.settings"), () => showReaderSettings());
    return el("div", { class: "actions" }, ...first, settings, this.#said);
  }
}

customElements.define("derm-reader", DermReader);

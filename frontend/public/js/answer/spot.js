// @ts-check
/** <derm-spot>: the photographs that one answer is based on: whether each counts, and its own estimate. */

import { button, el } from "../dom.js";
import { has, percent, t } from "../i18n.js";
import { reasonWords } from "./words.js";

/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("../check/state.js").Another} Another */
/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {import("../api.js").Together} Together */

/** The service's limit per spot. */
export const MOST_PHOTOGRAPHS = 8;

/** Why an image was left out, or a file was refused. @param {{code: string, text: string}} reason */
const whyLeft = (reason) =>
  has(`problem.${reason.code}.title`) ? t(`problem.${reason.code}.title`) : reasonWords(reason);

/** Whether and how a photograph counts. @param {Together} together @param {number} place */
function fate({ left_out: left, disagreement }, place) {
  const out = left.find(({ index }) => index === place);
  if (out) return [t("spot.left"), " ", ...out.reasons.map(whyLeft)];
  if (disagreement?.lower.includes(place)) return [t("spot.lower")];
  if (disagreement?.higher.includes(place)) return [t("spot.higher")];
  return [t("spot.counts")];
}

/** The decision and estimate for one photograph. @param {Assessment | null} own */
function alone(own) {
  if (!own) return null;
  const { decision, malignancy } = own;
  const estimate = malignancy && decision !== "rejected" ? [percent(malignancy.probability, 1)] : [];
  return el("span", { class: "own" }, [t(`verdict.${decision}.short`), ...estimate].join(", "));
}

/** The address of a photograph. @param {Item} item @param {number} place */
const urlAt = ({ url, others }, place) => others[place - 1]?.url ?? url;

/**
 * Methods: `show`, `add`. Events: `photo` with `{item, photo}`, the one to show; `others` with
 * `{item, others}`, further photographs to assess together with the item's own.
 */
export class DermSpot extends HTMLElement {
  /** @param {Item | null} item @param {Assessment | null} assessment */
  show(item, assessment) {
    const together = assessment?.together;
    // a second reader looks at all of them before any answer
    const before = item?.state === "reading" && item.others.length > 0;
    this.hidden = !item || !(together || before);
    if (!item || this.hidden) {
      this.replaceChildren();
      return;
    }
    const focused = this.contains(document.activeElement);
    const counts = together && { count: together.counted.length, total: together.images.length };
    this.replaceChildren(
      el(
        "section",
        { class: "card spot", "aria-labelledby": "spot-title" },
        el("h2", { id: "spot-title" }, t("spot.title")),
        counts && el("p", {}, t("spot.counted", counts)),
        together?.disagreement && el("p", { class: "notice" }, t("spot.disagree")),
        el(
          "ol",
          { class: "photographs" },
          [item, ...item.others].map((_, at) => this.#row(item, together, at)),
        ),
      ),
    );
    if (focused) /** @type {HTMLElement | null} */ (this.querySelector("[aria-pressed=true]"))?.focus();
  }

  /** @param {Item} item @param {Together | undefined} together @param {number} place */
  #row(item, together, place) {
    const own = /** @type {Assessment | null} */ (together?.images[place].assessment ?? null);
    const number = place + 1;
    const name = t("spot.number", { number });
    const image = el("img", { src: urlAt(item, place), alt: "", width: 48, height: 48 });
    const shown = button("", () => this.#tell("photo", { item, photo: place }), "plain", {
      "aria-pressed": String(place === item.photo),
      disabled: together && !own,
    });
    shown.replaceChildren(image, name);
    const rest = item.others.filter((_, at) => at !== place - 1);
    const remove = () => this.#tell("others", { item, others: rest });
    return el(
      "li",
      {},
      shown,
      together && el("span", { class: "fate" }, ...fate(together, place)),
      alone(own),
      place > 0 &&
        button(t("spot.remove"), remove, "plain", { "aria-label": t("spot.removeNamed", { number }) }),
    );
  }

  /** Lets the reader add photographs of the same spot. @param {Item} item */
  async add(item) {
    const { askForPhotographs } = await import("./spot-add.js");
    const added = await askForPhotographs(item, MOST_PHOTOGRAPHS - 1 - item.others.length);
    if (added.length > 0) this.#tell("others", { item, others: [...item.others, ...added] });
  }

  /** @param {string} type @param {object} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

customElements.define("derm-spot", DermSpot);

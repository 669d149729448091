// @ts-check
/**
 * <derm-verdict>: the decision in plain words, what to do next, and the scale; for lay readers preceded by a
 * few short sentences. A rejected picture gets no number.
 */

import { el, icon } from "../dom.js";
import { t, texts } from "../i18n.js";
import { inBrief } from "./brief.js";
import { moreButton } from "./depth.js";
import { frequency, frequencySentence, frequencyValues, missed, truth, urgency } from "./frequency.js";
import { placeChooser } from "./prevalence.js";
import "./scale.js";
import { englishToo, reasonWords } from "./words.js";

/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {NonNullable<Assessment["malignancy"]>} Malignancy */

// Shapes differ too, for readers who cannot tell the colours apart.
const ICONS = /** @type {Record<string, {d: string, filled?: boolean}[]>} */ ({
  suspicious: [{ d: "M24 6 44 41H4z", filled: true }, { d: "M24 19v11m0 5.500v.1" }],
  uncertain: [
    { d: "M24 4 44 24 24 44 4 24z", filled: true },
    { d: "M19 19.500c.5-6 10.500-6 10 0-.3 3.500-5 3.700-5 8m0 5.500v.1" },
  ],
  low_suspicion: [
    { d: "M24 5a19 19 0 1 0 0 38 19 19 0 0 0 0-38z", filled: true },
    { d: "M24 13v19m-7-7 7 7 7-7" },
  ],
  rejected: [{ d: "M7 7h34v34H7z", filled: true }, { d: "M17 17l14 14m0-14L17 31" }],
});

/** Properties: `asksModel` and `brief`; set `assessment` last; null clears the element. */
export class DermVerdict extends HTMLElement {
  /** @type {HTMLElement | null} */
  #heading = null;
  /** Whether to ask the page's own service for the model's test results. */
  asksModel = true;
  /** Whether to start with a few short sentences and hide the rest behind a button. */
  brief = false;

  /** @param {Assessment | null} assessment */
  set assessment(assessment) {
    this.hidden = assessment === null;
    if (!assessment) {
      this.replaceChildren();
      return;
    }
    const { decision } = assessment;
    this.#heading = el("h2", { id: "verdict-title", tabindex: "-1" }, t(`verdict.${decision}.title`));
    const head = el(
      "div",
      { class: "verdict-head" },
      icon("verdict-icon", "0 0 48 48", ...ICONS[decision]),
      this.#heading,
    );
    const { first, rest, english } = this.brief ? this.#short(assessment) : this.#whole(assessment);
    this.replaceChildren(
      el(
        "article",
        { class: "verdict card", "data-decision": decision, "aria-labelledby": "verdict-title" },
        head,
        ...first,
        el("div", { class: "rest", id: "answer-rest" }, ...rest),
        english,
      ),
    );
  }

  /** A few sentences, then a button that shows all of #whole. @param {Assessment} assessment */
  #short(assessment) {
    const brief = inBrief(assessment);
    const { rest } = this.#whole(assessment, { redraw: brief.redraw, whatever: false });
    const keys = [`verdict.${assessment.decision}.title`, ...brief.keys, "safety.whatever", "disclaimer.all"];
    return { first: [brief.element, moreButton()], rest, english: englishToo(keys, brief.values) };
  }

  /**
   * @param {Assessment} assessment
   * @param {{redraw?: (moved: Malignancy) => void, whatever?: boolean}} [beside] `redraw`: draws what
   *   else depends on the prevalence, instead of the dots; `whatever`: whether to show the safety sentence
   */
  #whole(assessment, { redraw, whatever = true } = {}) {
    const words = `verdict.${assessment.decision}`;
    const { inWords, scale, chooser, values } = estimate(assessment, redraw);
    const rest = [
      el("p", { class: "meaning" }, t(`${words}.meaning`)),
      this.asksModel && missed(assessment),
      inWords,
      reasons(assessment),
      el(
        "div",
        { class: "next" },
        el("h3", {}, t("verdict.next")),
        el("ul", {}, ...texts(`${words}.next`).map((step) => el("li", {}, step))),
        ...urgency(assessment),
        whatever && el("p", { class: "whatever" }, t("safety.whatever")),
      ),
      scale,
      chooser,
      modelOf(assessment),
      this.asksModel && truth(assessment),
    ];
    const keys = [`${words}.title`, `${words}.meaning`, ...numbersOf(assessment)];
    return { first: [], rest, english: englishToo([...keys, "safety.whatever", "disclaimer.all"], values) };
  }

  /** Moves the focus to the decision, so that it is read first. */
  focusHeading() {
    this.#heading?.focus();
  }
}

/**
 * The server's reasons, except the plain comparison with the threshold, which the scale shows.
 * @param {Assessment} assessment
 */
function reasons({ reasons: given }) {
  const told = given.filter((reason) => reason.code !== "threshold");
  if (told.length === 0) return null;
  return el(
    "div",
    {},
    el("h3", {}, t("verdict.why")),
    el("ul", { class: "plain-list" }, ...told.map((reason) => el("li", {}, reasonWords(reason)))),
  );
}

/**
 * The estimate in words and on the scale, and the choice of place of work, which changes both.
 * @param {Assessment} assessment
 * @param {(moved: Malignancy) => void} [redraw] draws the dots and whatever else changes
 */
function estimate({ decision, malignancy, together }, redraw) {
  if (!malignancy || decision === "rejected") return { values: () => ({}) };
  let now = malignancy;
  const inWords = el("div", { "aria-live": "polite" });
  const scale = el("div", {});
  const chooser = placeChooser(malignancy, (moved) => {
    now = moved;
    inWords.replaceChildren(redraw ? frequencySentence(moved) : frequency(moved));
    redraw?.(moved);
    const { probability, threshold, uncertain, prevalence } = moved;
    const [low, high] = uncertain;
    const several = (together?.counted.length ?? 1) > 1;
    scale.replaceChildren(el("derm-scale", { probability, threshold, low, high, prevalence, several }));
  });
  return { inWords, scale, chooser, values: () => frequencyValues(now) };
}

/** Keys of the sentence with the estimate. @param {Assessment} assessment */
const numbersOf = ({ decision, malignancy }) =>
  malignancy && decision !== "rejected" ? ["verdict.frequency"] : [];

/**
 * Name and version of the model that answered; nothing for a rejected picture.
 * @param {Assessment} assessment
 */
function modelOf({ decision, model }) {
  if (decision === "rejected") return null;
  return el(
    "p",
    { class: "hint" },
    t("verdict.model", { model: t("figure.modelVersion", { name: model.name, version: model.version }) }),
  );
}

customElements.define("derm-verdict", DermVerdict);

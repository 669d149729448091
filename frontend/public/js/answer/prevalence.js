// @ts-check
/**
 * The same answer at another prevalence: probability, threshold and uncertain range shift by the same
 * log-odds (Bayes' rule), so that no decision changes.
 */

import { el } from "../dom.js";
import { currentLanguage, inLanguage, percent, t } from "../i18n.js";

/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {NonNullable<Assessment["malignancy"]>} Malignancy */

/** Examples of prevalence. @type {[name: string, share: number][]} */
const PLACES = [
  ["practice", 0.02],
  ["clinic", 0.1],
  ["biopsied", 0.3],
];
/** The chosen prevalence, for all answers until the page is closed; null: the model's. */
let chosen = /** @type {number | null} */ (null);

/** @param {number} share 0..1 */
export const logOdds = (share) => Math.log(share / (1 - share));

/**
 * @param {Malignancy} malignancy
 * @param {number} prevalence 0..1, exclusive
 * @returns {Malignancy} the same estimate at that prevalence
 */
export function at(malignancy, prevalence) {
  const step = logOdds(prevalence) - logOdds(malignancy.prevalence);
  const move = (/** @type {number} */ share) => 1 / (1 + Math.exp(-(logOdds(share) + step)));
  return {
    ...malignancy,
    prevalence,
    probability: move(malignancy.probability),
    threshold: move(malignancy.threshold),
    uncertain: [move(malignancy.uncertain[0]), move(malignancy.uncertain[1])],
  };
}

/**
 * A select for the reader's place of work, which sets the prevalence.
 *
 * @param {Malignancy} malignancy as the model gave it
 * @param {(malignancy: Malignancy) => void} draw shows it; called at once and after each choice
 * @returns {HTMLElement}
 */
export function placeChooser(malignancy, draw) {
  const speaks = currentLanguage();
  const option = (/** @type {number | null} */ share, /** @type {string} */ text) =>
    el("option", { value: share ?? "", selected: share === chosen }, text);
  const select = /** @type {HTMLSelectElement} */ (
    el(
      "select",
      {},
      option(null, t("prevalence.model", { share: percent(malignancy.prevalence) })),
      ...PLACES.map(([name, share]) => option(share, t(`prevalence.${name}`, { share: percent(share) }))),
    )
  );
  const show = () => draw(chosen === null ? malignancy : at(malignancy, chosen));
  select.addEventListener("change", () => {
    chosen = select.value ? Number(select.value) : null;
    inLanguage(speaks, show);
  });
  show();
  return el(
    "div",
    { class: "place" },
    el("label", { class: "field" }, t("prevalence.title"), select),
    el("p", { class: "hint" }, t("prevalence.meaning")),
  );
}

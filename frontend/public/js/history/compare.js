// @ts-check
/**
 * Compares two dates of one mole: side by side, overlaid and, on request, with the changes that the server
 * measures. Shows no score of a picture.
 */

import { button, el, openDialog } from "../dom.js";
import { date, t } from "../i18n.js";
import { Measure } from "./measure.js";
import { Overlay } from "./overlay.js";

/** @typedef {import("./store.js").Picture} Picture */

/** Asks whether the reader sees a change, and says what to do after each answer. */
function ownEyes() {
  const advice = el("p", { class: "advice", role: "status", hidden: true });
  const answers = ["yes", "unsure", "no"].map((answer) => {
    const input = el("input", { type: "radio", name: "changed", value: answer });
    input.addEventListener("change", () => {
      advice.hidden = false;
      advice.textContent = t(answer === "no" ? "safety.whatever" : `compare.advice.${answer}`);
    });
    return el("label", { class: "switch" }, input, t(`compare.answer.${answer}`));
  });
  return [el("fieldset", { class: "answers" }, el("legend", {}, t("compare.question")), ...answers), advice];
}

/** @param {string} name of the mole @param {Picture} picture @param {string} address */
function figure(name, picture, address) {
  const day = date(new Date(picture.takenAt));
  return el(
    "figure",
    {},
    el("img", { src: address, alt: t("compare.alt", { name, day }) }),
    el("figcaption", {}, day),
  );
}

/**
 * @param {string} name of the mole
 * @param {Picture[]} pictures at least two, the oldest first
 * @param {(picture: Picture) => string} addressOf
 * @returns {HTMLDialogElement} open
 */
export function compare(name, pictures, addressOf) {
  const options = () =>
    pictures.map((picture) => el("option", { value: picture.id }, date(new Date(picture.takenAt), true)));
  const earlier = /** @type {HTMLSelectElement} */ (el("select", {}, ...options()));
  const later = /** @type {HTMLSelectElement} */ (el("select", {}, ...options()));
  earlier.value = pictures[0].id;
  later.value = /** @type {Picture} */ (pictures.at(-1)).id;
  const pair = el("div", { class: "pair" });
  const overlay = new Overlay();
  const measure = new Measure((comparison) => overlay.fit(comparison));
  const show = () => {
    const chosen = [earlier, later].map(
      ({ value }) => /** @type {Picture} */ (pictures.find(({ id }) => id === value)),
    );
    const [first, second] = chosen.sort((one, other) => one.takenAt - other.takenAt);
    pair.replaceChildren(...[first, second].map((picture) => figure(name, picture, addressOf(picture))));
    overlay.show(addressOf(first), addressOf(second));
    measure.offer([first, second]);
  };
  for (const input of [earlier, later]) input.addEventListener("change", show);
  const dialog = openDialog(
    "compare",
    el("h2", {}, t("compare.title", { name })),
    el("p", { class: "soft" }, t("compare.lead")),
    el(
      "div",
      { class: "form" },
      el("label", { class: "field" }, t("compare.earlier"), earlier),
      el("label", { class: "field" }, t("compare.later"), later),
    ),
    pair,
    measure.element,
    el("h3", {}, t("compare.overlay")),
    overlay.element,
    ...ownEyes(),
    el(
      "div",
      { class: "actions" },
      button(t("common.close"), () => dialog.close(), "primary"),
    ),
  );
  dialog.addEventListener("close", () => measure.stop());
  show();
  return dialog;
}

// @ts-check
/** Two dates of one mole side by side, or one over the other. Pictures are compared, not scores. */

import { button, el, openDialog, setVars } from "../dom.js";
import { date, t } from "../i18n.js";

/** @typedef {import("./store.js").Picture} Picture */

/**
 * @param {string} name of the mole
 * @param {Picture[]} pictures at least two, the oldest first
 * @param {(picture: Picture) => string} addressOf
 */
export function compare(name, pictures, addressOf) {
  const options = () =>
    pictures.map((picture) => el("option", { value: picture.id }, date(new Date(picture.takenAt), true)));
  const earlier = /** @type {HTMLSelectElement} */ (el("select", {}, ...options()));
  const later = /** @type {HTMLSelectElement} */ (el("select", {}, ...options()));
  earlier.value = pictures[0].id;
  later.value = /** @type {Picture} */ (pictures.at(-1)).id;
  const pair = el("div", { class: "pair" });
  const overlay = el("div", { class: "overlay", role: "img", "aria-label": t("compare.overlayAlt") });
  const blend = /** @type {HTMLInputElement} */ (
    el("input", { type: "range", min: 0, max: 100, step: 5, value: 50 })
  );
  const advice = el("p", { class: "advice", role: "status", hidden: true });
  const show = () => {
    const chosen = [earlier, later].map(
      ({ value }) => /** @type {Picture} */ (pictures.find(({ id }) => id === value)),
    );
    pair.replaceChildren(
      ...chosen.map((picture) => {
        const day = date(new Date(picture.takenAt));
        return el(
          "figure",
          {},
          el("img", { src: addressOf(picture), alt: t("compare.alt", { name, day }) }),
          el("figcaption", {}, day),
        );
      }),
    );
    overlay.replaceChildren(...chosen.map((picture) => el("img", { src: addressOf(picture), alt: "" })));
    setVars(overlay, { ghost: Number(blend.value) / 100 });
  };
  for (const input of [earlier, later]) input.addEventListener("change", show);
  blend.addEventListener("input", show);

  const answers = ["yes", "unsure", "no"].map((answer) => {
    const input = el("input", { type: "radio", name: "changed", value: answer });
    input.addEventListener("change", () => {
      advice.hidden = false;
      advice.textContent = t(answer === "no" ? "safety.whatever" : `compare.advice.${answer}`);
    });
    return el("label", { class: "switch" }, input, t(`compare.answer.${answer}`));
  });
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
    el("h3", {}, t("compare.overlay")),
    overlay,
    el("label", { class: "slider" }, el("span", {}, t("compare.blend")), blend),
    el("fieldset", { class: "answers" }, el("legend", {}, t("compare.question")), ...answers),
    advice,
    el(
      "div",
      { class: "actions" },
      button(t("common.close"), () => dialog.close(), "primary"),
    ),
  );
  show();
}

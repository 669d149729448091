// @ts-check
/** Kept photographs, each with the lesion's outline over it and the measurements inside it. */

import { depthOf } from "../answer/depth.js";
import { el } from "../dom.js";
import { t } from "../i18n.js";
import { lesionLead, lesionRows, lesionWords } from "../lesion/card.js";
import { outlineOver } from "../lesion/drawing.js";

/** @typedef {import("./store.js").Shot} Shot */

/**
 * @param {HTMLImageElement[]} images
 * @param {Shot[]} shots shown by them
 */
export function traced(images, shots) {
  const shown = /** @type {HTMLInputElement} */ (el("input", { type: "checkbox", checked: true }));
  const turn = el("label", { class: "switch" }, shown, el("span", {}, t("lesion.show")));
  const several = shots.length > 1;
  const figures = shots.map((shot, at) => {
    const name = several ? t("spot.number", { number: at + 1 }) : "";
    const outline = over(images[at], shot, shown);
    return el(
      "figure",
      {},
      el("div", { class: "traced-picture", dir: "ltr" }, images[at], outline),
      several && el("figcaption", {}, name),
      shot.observed && observations(shot, name),
    );
  });
  const outlined = shots.some(({ observed }) => observed);
  return el("div", { class: "traced" }, outlined && turn, ...figures);
}

/**
 * The outline over a picture, visible while the box is ticked.
 *
 * @param {HTMLImageElement} image
 * @param {Shot} shot
 * @param {HTMLInputElement} shown
 */
function over(image, { observed, outline }, shown) {
  if (!observed) return null;
  const drawn = outlineOver(observed, outline);
  const draw = () => {
    const { width, height } = observed.image;
    // if the browser rotates the picture differently from the server, it would be misplaced
    const fits = image.naturalWidth === width && image.naturalHeight === height;
    drawn.toggleAttribute("hidden", !fits || !shown.checked);
  };
  shown.addEventListener("change", draw);
  image.addEventListener("load", draw);
  draw();
  return drawn;
}

/** @param {Shot} shot @param {string} name of the photograph, if there are several */
function observations({ observed, outline }, name) {
  if (!observed) return null;
  const facts = lesionRows(observed, outline).flatMap(([row, value]) => [
    el("dt", {}, row),
    el("dd", {}, value),
  ]);
  return el(
    "details",
    { open: depthOf() === "clinical" },
    el("summary", {}, t("lesion.title"), name && el("span", { class: "visually-hidden" }, `, ${name}`)),
    el("p", { class: "soft" }, lesionLead(observed)),
    el("dl", { class: "facts" }, ...facts),
    el("p", { class: "soft" }, lesionWords(outline)),
  );
}

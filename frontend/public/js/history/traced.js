// @ts-check
/** A kept picture with the lesion's outline over it, and what was measured inside. */

import { depthOf } from "../answer/depth.js";
import { el } from "../dom.js";
import { t } from "../i18n.js";
import { lesionRows, lesionWords } from "../lesion/card.js";
import { outlineOver } from "../lesion/drawing.js";

/** @typedef {import("./store.js").Shot} Shot */

/**
 * @param {HTMLImageElement} image
 * @param {Shot} shot that it shows
 */
export function traced(image, { observed, outline }) {
  if (!observed) return el("div", { class: "traced" }, el("div", { class: "traced-picture" }, image));
  const drawn = outlineOver(observed, outline);
  const shown = /** @type {HTMLInputElement} */ (el("input", { type: "checkbox", checked: true }));
  const draw = () => {
    const { width, height } = observed.image;
    // a browser that turns the picture otherwise than the server did would show it at the wrong place
    const fits = image.naturalWidth === width && image.naturalHeight === height;
    drawn.toggleAttribute("hidden", !fits || !shown.checked);
    turn.hidden = !fits;
  };
  const turn = el("label", { class: "switch" }, shown, el("span", {}, t("lesion.show")));
  shown.addEventListener("change", draw);
  image.addEventListener("load", draw);
  draw();
  const facts = lesionRows(observed, outline).flatMap(([name, value]) => [
    el("dt", {}, name),
    el("dd", {}, value),
  ]);
  return el(
    "div",
    { class: "traced" },
    el("div", { class: "traced-picture", dir: "ltr" }, image, drawn),
    turn,
    el(
      "details",
      { open: depthOf() === "clinical" },
      el("summary", {}, t("lesion.title")),
      el("p", { class: "soft" }, t("lesion.lead")),
      el("dl", { class: "facts" }, ...facts),
      el("p", { class: "soft" }, lesionWords(outline)),
    ),
  );
}

// @ts-check
/** An answer in a few short sentences: what was seen, how sure that is, what to do. */

import { el } from "../dom.js";
import { t } from "../i18n.js";
import { briefValues, dots, stepOf } from "./frequency.js";

/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {NonNullable<Assessment["malignancy"]>} Malignancy */

/** @param {Assessment} assessment */
export function inBrief(assessment) {
  const { decision, malignancy } = assessment;
  const estimated = malignancy && decision !== "rejected" ? malignancy : null;
  const step = decision === "rejected" ? "retake" : stepOf(assessment);
  let now = estimated;
  const sure = el("div", { class: "frequency", "aria-live": "polite" });
  /** @param {Malignancy} moved at the chosen prevalence */
  const redraw = (moved) => {
    now = moved;
    sure.replaceChildren(dots(moved.probability), el("p", {}, t("brief.sure", briefValues(moved))));
  };
  if (estimated) redraw(estimated);
  const element = el(
    "div",
    { class: "brief" },
    el("p", {}, t(`brief.${decision}`)),
    estimated && sure,
    el(
      "div",
      { class: "do", "data-step": step },
      el("p", {}, t(`brief.do.${step}`)),
      el("p", { class: "whatever" }, t("safety.whatever")),
    ),
  );
  return {
    element,
    redraw,
    keys: [`brief.${decision}`, ...(estimated ? ["brief.sure"] : []), `brief.do.${step}`],
    values: () => (now ? briefValues(now) : {}),
  };
}

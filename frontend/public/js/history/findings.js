// @ts-check
/** The server's comparison of two pictures of a spot, in words. "No change found" is no all-clear. */

import { depthOf } from "../answer/depth.js";
import { englishToo, reasonWords } from "../answer/words.js";
import { el } from "../dom.js";
import { number, percent, t } from "../i18n.js";

/** @typedef {import("../api.js").Comparison} Comparison */
/** @typedef {NonNullable<Comparison["growth"]>} Measure */

/** Reasons that other sentences here already state. */
const SAID = ["growth", "colour", "no_change"];

/** @param {number} value in percent, may be negative */
const share = (value) => percent(Math.round(Math.abs(value)) / 100, 0);

/** How the size changed, in words. @param {Measure} growth */
export function growthWords({ value, low, high }) {
  if (low > 0) return t("compare.growth.larger", { value: share(value), low: share(low), high: share(high) });
  if (high < 0)
    return t("compare.growth.smaller", { value: share(value), low: share(high), high: share(low) });
  return t("compare.growth.unclear", { smaller: share(low), larger: share(high) });
}

/** @param {Comparison} comparison */
function colourWords({ colours, reasons }) {
  const changed = reasons.some(({ code }) => code === "colour");
  const named = (/** @type {"appeared" | "vanished"} */ which) =>
    colours && colours[which].length > 0
      ? [
          t(`compare.colour.${which}`, {
            colours: colours[which].map((name) => t(`lesion.colour.${name}`)).join(" · "),
          }),
        ]
      : [];
  const first = t(changed ? "compare.colour.changed" : "compare.colour.same");
  return [first, ...named("appeared"), ...named("vanished")].join(" ");
}

/** Sizes, colours, and the basis for them. @param {Comparison} comparison */
function measured(comparison) {
  const { growth, colour_change: colour, registration } = comparison;
  const lines = [growth && growthWords(growth), colourWords(comparison)];
  if (colour && depthOf() === "clinical") {
    const [value, low, high] = [colour.value, colour.low, colour.high].map((each) => number(each, 2));
    lines.push(t("compare.colour.difference", { value, low, high }));
  }
  return [
    el("ul", { class: "plain-list" }, ...lines.filter(Boolean).map((line) => el("li", {}, line))),
    registration && el("p", { class: "soft" }, t(`compare.matched.${registration.based_on}`)),
  ];
}

/**
 * @param {Comparison} comparison
 * @param {string[]} days of the two pictures
 * @returns {{heading: HTMLElement, content: HTMLElement}} the heading is focusable
 */
export function findings(comparison, days) {
  const { result, reasons, images } = comparison;
  const suspicious = days.filter((_, at) => images[at].decision === "suspicious");
  const title = `compare.result.${result}`;
  const advice = `compare.advised.${suspicious.length > 0 ? "suspicious" : result}`;
  const heading = el("h4", { tabindex: "-1" }, t(title));
  const told = reasons.filter(({ code }) => !SAID.includes(code));
  const content = el(
    "div",
    { class: "findings-of-change", "data-result": result },
    heading,
    el("p", { class: "advice" }, t(advice)),
    ...suspicious.map((day) => el("p", {}, t("compare.alone", { day }))),
    told.length > 0 &&
      el("ul", { class: "plain-list" }, ...told.map((reason) => el("li", {}, reasonWords(reason)))),
    ...(result === "not_comparable" ? [] : measured(comparison)),
    englishToo([title, advice, "disclaimer.all"]),
  );
  return { heading, content };
}

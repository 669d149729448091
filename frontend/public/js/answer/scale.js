// @ts-check
/**
 * <derm-scale>: shows a probability against its threshold and uncertain range, with the prevalence that they
 * assume. The axis is in log-odds: a threshold of a few per cent is not squeezed into a corner, and another
 * prevalence shifts everything by the same distance.
 */

import { el, setVars } from "../dom.js";
import { logOdds } from "./prevalence.js";
import { outOfHundred, percent, t } from "../i18n.js";

/** Values beyond these are drawn at the end of the scale. */
const ENDS = [0.001, 0.999];
const TICKS = [0.01, 0.1, 0.5, 0.9, 0.99];

/** @param {number} share 0..1 @returns {number} its position, 0..100 */
function placeOf(share) {
  const [least, most] = ENDS.map(logOdds);
  const [low, high] = ENDS;
  return (100 * (logOdds(Math.min(high, Math.max(low, share))) - least)) / (most - least);
}

const ATTRIBUTES = ["probability", "threshold", "low", "high", "prevalence"];

/**
 * Attributes `probability`, `threshold`, `low`, `high`, `prevalence`, each 0..1; `several` if the answer is
 * based on several pictures. Read when the element is connected.
 */
export class DermScale extends HTMLElement {
  connectedCallback() {
    const values = ATTRIBUTES.map((name) =>
      this.hasAttribute(name) ? Number(this.getAttribute(name)) : Number.NaN,
    );
    const [probability, threshold, low, high, prevalence] = values;
    if (!values.every(Number.isFinite)) {
      this.replaceChildren();
      return;
    }
    const whose = this.hasAttribute("several") ? "hereSeveral" : "here";
    // Values that round to the same figure on either side of the threshold need one more digit.
    const close = [threshold, low, high].some((edge) => Math.abs(edge - probability) < 0.01);
    const write = (/** @type {number} */ value) => (close ? percent(value, 1) : percent(value));

    const here = el(
      "div",
      { class: "scale-label here", dir: "auto" },
      t(`scale.${whose}`, { value: write(probability) }),
    );
    const limit = el(
      "div",
      { class: "scale-label limit", dir: "auto" },
      t("scale.threshold", { value: write(threshold) }),
    );
    const track = el(
      "div",
      { class: "track" },
      el("span", { class: "band" }),
      el("span", { class: "limit-line" }),
      el("span", { class: "pin" }),
    );
    const ticks = TICKS.map((share) => {
      const tick = el("span", {}, percent(share));
      setVars(tick, { at: placeOf(share) });
      return tick;
    });
    const ends = el("div", { class: "ticks" }, ...ticks);
    // The drawing repeats the list below, so it is hidden from assistive technology.
    const drawing = el(
      "div",
      { class: "scale", "aria-hidden": "true", dir: "ltr" },
      here,
      track,
      limit,
      ends,
    );
    setVars(here, { at: placeOf(probability) });
    setVars(limit, { at: placeOf(threshold) });
    setVars(track, {
      at: placeOf(probability),
      threshold: placeOf(threshold),
      "low-edge": placeOf(low),
      "high-edge": placeOf(high),
    });

    this.replaceChildren(
      el("h3", {}, t("scale.title")),
      drawing,
      el(
        "dl",
        { class: "legend" },
        el("dt", {}, t(`scale.${whose}Colon`, { value: write(probability) })),
        el("dd", {}, t("scale.hereMeaning", { share: outOfHundred(prevalence) })),
        el("dt", {}, t("scale.thresholdColon", { value: write(threshold) })),
        el("dd", {}, t("scale.thresholdMeaning")),
        el("dt", {}, t("scale.band", { low: write(low), high: write(high) })),
        el("dd", {}, t("scale.bandMeaning")),
        el("dt", {}, t("scale.prevalence", { value: percent(prevalence, 1) })),
        el("dd", {}, t("scale.prevalenceMeaning")),
      ),
    );
  }
}

customElements.define("derm-scale", DermScale);

// @ts-check
/** <derm-scale>: a probability against its threshold and uncertain band, with the prevalence that all of them assume. */

import { el, setVars } from "./dom.js";
import { outOfHundred, percent } from "./messages.js";

/** Attributes `probability`, `threshold`, `low`, `high`, `prevalence`, each 0..1. */
export class DermScale extends HTMLElement {
  static observedAttributes = ["probability", "threshold", "low", "high", "prevalence"];

  connectedCallback() {
    this.#render();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#render();
  }

  /** @param {string} name */
  #value(name) {
    return this.hasAttribute(name) ? Number(this.getAttribute(name)) : Number.NaN;
  }

  #render() {
    const [probability, threshold, low, high, prevalence] = DermScale.observedAttributes.map((name) => this.#value(name));
    if (![probability, threshold, low, high, prevalence].every(Number.isFinite)) {
      this.replaceChildren();
      return;
    }
    // Two values that round alike but lie on two sides of the threshold need one more digit each.
    const close = [threshold, low, high].some((edge) => Math.abs(edge - probability) < 0.01);
    const write = (/** @type {number} */ value) => (close ? percent(value, 1) : percent(value));
    const assumed = outOfHundred(prevalence);

    const here = el("div", { class: "scale-label here" }, `This picture ${write(probability)}`);
    const limit = el("div", { class: "scale-label limit" }, `Threshold ${write(threshold)}`);
    const track = el("div", { class: "track" }, el("span", { class: "band" }), el("span", { class: "limit-line" }), el("span", { class: "pin" }));
    // The picture of the scale repeats what the list below says, so it is hidden from assistive technology.
    const drawing = el("div", { class: "scale", "aria-hidden": "true" }, here, track, limit, el("div", { class: "ends" }, el("span", {}, "0%"), el("span", {}, "100%")));
    setVars(here, { at: probability * 100 });
    setVars(limit, { at: threshold * 100 });
    setVars(track, { at: probability * 100, threshold: threshold * 100, "low-edge": low * 100, "high-edge": high * 100 });

    this.replaceChildren(
      el("h3", {}, "Estimated probability that the lesion is malignant"),
      drawing,
      el(
        "dl",
        { class: "legend" },
        el("dt", {}, `This picture: ${write(probability)}`),
        el("dd", {}, `if ${assumed} examined like this one are malignant`),
        el("dt", {}, `Threshold: ${write(threshold)}`),
        el("dd", {}, "at or above it, outside the uncertain range, a picture counts as suspicious"),
        el("dt", {}, `Uncertain: ${write(low)} to ${write(high)}`),
        el("dd", {}, "hatched: here no side is taken"),
        el("dt", {}, `Assumed share: ${percent(prevalence, 1)}`),
        el("dd", {}, "where fewer of the lesions examined are malignant, the true probability is lower; where more are, higher"),
      ),
    );
  }
}

customElements.define("derm-scale", DermScale);

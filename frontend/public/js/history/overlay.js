// @ts-check
/** Overlays the later picture on the earlier one, blended or split by a dividing line. */

import { pullSideways } from "../answer/sideways.js";
import { el, setVars } from "../dom.js";
import { percent, t } from "../i18n.js";
import { lineOver } from "../lesion/drawing.js";

/** @typedef {import("../api.js").Comparison} Comparison */
/** @typedef {{x: number, y: number, width: number, height: number}} Box in pixels */

const STYLES = ["blend", "divide"];
const STEPS = { blend: 5, divide: 1 };
const ROOM = 0.04; // of the drawn part, around the outlines

/**
 * The part of the earlier picture to show: the area that the later one covers, and both outlines.
 *
 * @param {Comparison} comparison with outlines
 * @returns {Box}
 */
function partOf({ overlay_region, outlines, images: [{ image, region }] }) {
  const covered = overlay_region ?? region;
  const points = [...(outlines?.earlier ?? []), ...(outlines?.later ?? [])];
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const room = ROOM * covered.width;
  const left = Math.max(0, Math.min(covered.x, ...xs.map((x) => x - room)));
  const top = Math.max(0, Math.min(covered.y, ...ys.map((y) => y - room)));
  const right = Math.min(image.width, Math.max(covered.x + covered.width, ...xs.map((x) => x + room)));
  const bottom = Math.min(image.height, Math.max(covered.y + covered.height, ...ys.map((y) => y + room)));
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** A box's position and size on another, in percent of that one. @param {Box} box @param {Box} on */
const lies = (box, on) => ({
  x: (100 * (box.x - on.x)) / on.width,
  y: (100 * (box.y - on.y)) / on.height,
  w: (100 * box.width) / on.width,
  h: (100 * box.height) / on.height,
});

const WHOLE = { x: 0, y: 0, w: 100, h: 100 };

/** Methods: `show`, `fit`. */
export class Overlay {
  #earlier = /** @type {HTMLImageElement} */ (el("img", { class: "earlier", alt: "" }));
  #later = /** @type {HTMLImageElement} */ (el("img", { class: "later", alt: "" }));
  #layer = el("div", { class: "layer" }, el("div", { class: "whole" }, this.#later));
  #outlines = el("div", { class: "whole", hidden: true });
  #divider = el("span", { class: "divider", "aria-hidden": "true" });
  #frame = el(
    "div",
    { class: "overlay", role: "img", dir: "ltr" },
    el("div", { class: "whole" }, this.#earlier),
    this.#layer,
    this.#outlines,
    this.#divider,
  );
  #slider = /** @type {HTMLInputElement} */ (
    el("input", { type: "range", min: 0, max: 100, value: 50, dir: "ltr" })
  );
  #value = el("span", { class: "value", "aria-hidden": "true" });
  #styles = STYLES.map(
    (style) =>
      /** @type {HTMLInputElement} */ (
        el("input", { type: "radio", name: "overlay-style", value: style, checked: style === "blend" })
      ),
  );
  #drawn = /** @type {HTMLInputElement} */ (el("input", { type: "checkbox", checked: true }));
  #key = el(
    "div",
    { class: "outline-key", hidden: true },
    el("label", { class: "switch" }, this.#drawn, el("span", {}, t("compare.outlines.show"))),
    el(
      "ul",
      {},
      ...["earlier", "later"].map((which) => el("li", { class: which }, t(`compare.outlines.${which}`))),
    ),
  );
  #words = el("p", { class: "caption", hidden: true });
  element = el(
    "div",
    { class: "laid" },
    this.#frame,
    this.#key,
    el(
      "div",
      { class: "controls", role: "group", "aria-label": t("compare.overlay") },
      el(
        "fieldset",
        { class: "heat-styles" },
        el("legend", { class: "visually-hidden" }, t("compare.style.title")),
        ...this.#styles.map((input) =>
          el("label", { class: "switch" }, input, el("span", {}, t(`compare.style.${input.value}`))),
        ),
      ),
      el("label", { class: "slider" }, el("span", {}, t("compare.blend")), this.#slider, this.#value),
    ),
    this.#words,
  );

  constructor() {
    this.#slider.addEventListener("input", () => this.#lay());
    this.#drawn.addEventListener("change", () => (this.#outlines.hidden = !this.#drawn.checked));
    for (const input of this.#styles) input.addEventListener("change", () => this.#lay());
    this.#frame.addEventListener("pointerdown", (event) => this.#pull(event));
    this.#lay();
  }

  /** Overlays the pictures without alignment. @param {string} earlier @param {string} later addresses */
  show(earlier, later) {
    this.#earlier.src = earlier;
    this.#later.src = later;
    this.#key.hidden = this.#outlines.hidden = true;
    this.#words.hidden = true;
    this.#frame.removeAttribute("data-fitted");
    this.#frame.setAttribute("aria-label", t("compare.overlayAlt"));
    setVars(this.#frame, { ratio: 1 });
    for (const part of this.#frame.querySelectorAll(".whole"))
      setVars(/** @type {HTMLElement} */ (part), WHOLE);
    setVars(this.#later, WHOLE);
  }

  /**
   * Aligns the later picture with the earlier one, and draws both outlines.
   *
   * @param {Comparison} comparison whose earlier picture is shown
   */
  async fit(comparison) {
    const { overlay, overlay_region, outlines, images } = comparison;
    const { image } = images[0];
    await this.#earlier.decode().catch(() => {});
    const { naturalWidth, naturalHeight } = this.#earlier;
    if (!overlay || !overlay_region || !outlines) return;
    // if the browser rotates the picture differently from the server, everything would be misplaced
    if (naturalWidth !== image.width || naturalHeight !== image.height) {
      this.#words.textContent = t("heatmap.turned");
      this.#words.hidden = false;
      return;
    }
    const all = { x: 0, y: 0, width: image.width, height: image.height };
    const part = partOf(comparison);
    this.#later.src = overlay;
    setVars(this.#frame, { ratio: (part.width / part.height).toFixed(6) });
    for (const whole of this.#frame.querySelectorAll(".whole"))
      setVars(/** @type {HTMLElement} */ (whole), lies(all, part));
    setVars(this.#later, lies(overlay_region, all));
    const lines = /** @type {const} */ (["earlier", "later"]).map((which) =>
      lineOver(outlines[which], image, which),
    );
    this.#outlines.replaceChildren(...lines);
    this.#key.hidden = false;
    this.#outlines.hidden = !this.#drawn.checked;
    this.#frame.toggleAttribute("data-fitted", true);
    this.#frame.setAttribute("aria-label", t("compare.fittedAlt"));
  }

  get #divides() {
    return this.#styles[1].checked;
  }

  #lay() {
    const style = this.#divides ? "divide" : "blend";
    this.#slider.step = String(STEPS[style]);
    this.#frame.dataset.style = style;
    setVars(this.#frame, { split: this.#slider.value });
    const value = percent(Number(this.#slider.value) / 100, 0);
    this.#slider.setAttribute("aria-valuetext", value);
    this.#value.textContent = value;
  }

  /** @param {PointerEvent} down */
  #pull(down) {
    if (!this.#divides || !down.isPrimary || down.button !== 0) return;
    pullSideways(down, this.#frame, {
      before: Number(this.#slider.value),
      move: (share) => {
        this.#slider.value = String(share);
        this.#lay();
      },
    });
  }
}

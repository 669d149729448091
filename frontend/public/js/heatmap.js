// @ts-check
/** <derm-heatmap>: the picture, upright; after an answer also the part that was judged and the heatmap over it. */

import { el, setVars } from "./dom.js";

/** @typedef {import("./api.js").Assessment} Assessment */

const OPACITY = 70;

/** Attributes in: `src`, `alt`. Property in: `assessment`; null shows the picture alone. */
export class DermHeatmap extends HTMLElement {
  static observedAttributes = ["src", "alt"];

  #photo = /** @type {HTMLImageElement} */ (el("img", { class: "photo", alt: "" }));
  #missing = el("p", { class: "no-preview", hidden: true }, "This browser cannot show this kind of picture. It can be judged all the same.");
  #heat = /** @type {HTMLImageElement} */ (el("img", { class: "heat", alt: "" }));
  #region = el("div", { class: "region", hidden: true }, this.#heat);
  #frame = el("div", { class: "frame" }, this.#photo, this.#missing, this.#region);
  #caption = el("p", { class: "caption", hidden: true });
  #shown = /** @type {HTMLInputElement} */ (el("input", { type: "checkbox", id: "heat-shown", checked: true }));
  #opacity = /** @type {HTMLInputElement} */ (el("input", { type: "range", id: "heat-opacity", min: 0, max: 100, step: 5, value: OPACITY }));
  // for the eye; the slider tells its value itself
  #output = el("span", { class: "value", "aria-hidden": "true" });
  #controls = el(
    "div",
    { class: "controls", hidden: true, role: "group", "aria-label": "Heatmap" },
    el("label", { class: "switch" }, this.#shown, "Show heatmap"),
    el("label", { class: "slider" }, el("span", {}, "Opacity"), this.#opacity, this.#output),
  );
  /** @type {Assessment | null} */
  #assessment = null;

  constructor() {
    super();
    this.#photo.addEventListener("load", () => this.#layout());
    this.#photo.addEventListener("error", () => this.#layout());
    this.#shown.addEventListener("change", () => this.#blend());
    this.#opacity.addEventListener("input", () => this.#blend());
  }

  connectedCallback() {
    this.replaceChildren(el("div", { class: "stage" }, this.#frame), this.#controls, this.#caption);
    this.#blend();
  }

  /**
   * @param {string} name
   * @param {string | null} _old
   * @param {string | null} value
   */
  attributeChangedCallback(name, _old, value) {
    if (name === "alt") this.#photo.alt = value ?? "";
    else if (value) this.#photo.src = value;
    else this.#photo.removeAttribute("src");
  }

  /** @param {Assessment | null} assessment */
  set assessment(assessment) {
    this.#assessment = assessment;
    this.#shown.checked = true;
    this.#opacity.value = String(OPACITY);
    this.#heat.removeAttribute("src");
    if (assessment?.heatmap) this.#heat.src = assessment.heatmap;
    this.#layout();
    this.#blend();
  }

  /** Gives the frame the picture's shape and puts the region where the server says it was. */
  #layout() {
    const { naturalWidth, naturalHeight, complete } = this.#photo;
    const visible = naturalWidth > 0;
    this.#photo.hidden = !visible;
    this.#missing.hidden = visible || !complete || !this.#photo.hasAttribute("src");

    const assessment = this.#assessment;
    const width = assessment?.image.width || naturalWidth || 4;
    const height = assessment?.image.height || naturalHeight || 3;
    // A browser that turns the picture otherwise than the server did would show the region at the wrong place.
    const fits = !visible || (naturalWidth === width && naturalHeight === height);
    setVars(this.#frame, { ratio: (visible ? naturalWidth / naturalHeight : width / height).toFixed(6) });

    const rejected = assessment?.decision === "rejected";
    this.#region.hidden = !assessment || !fits;
    this.#heat.hidden = !assessment?.heatmap;
    this.#controls.hidden = !assessment?.heatmap || !fits;
    this.#caption.hidden = !assessment;
    if (!assessment) return;
    const { region } = assessment;
    Object.assign(this.#region.style, {
      left: `${(100 * region.x) / width}%`,
      top: `${(100 * region.y) / height}%`,
      width: `${(100 * region.width) / width}%`,
      height: `${(100 * region.height) / height}%`,
    });
    if (!fits) {
      this.#caption.textContent = "Your browser shows the picture turned or sized otherwise than it was judged, so the judged part cannot be marked on it.";
    } else if (rejected) {
      this.#caption.textContent = "The bright square is the part that was looked at. There is no heatmap, because the picture was not judged.";
    } else if (assessment.heatmap) {
      this.#caption.textContent =
        "The bright square is the part that was judged. The stronger the colour, the more that place counted in the estimate, for or against; with a low estimate there is little colour. It does not outline a disease.";
    } else {
      this.#caption.textContent = "The bright square is the part that was judged.";
    }
  }

  #blend() {
    const value = Number(this.#opacity.value);
    this.#heat.style.opacity = this.#shown.checked ? String(value / 100) : "0";
    this.#opacity.disabled = !this.#shown.checked;
    this.#opacity.setAttribute("aria-valuetext", `${value} percent`);
    this.#output.textContent = `${value}%`;
  }
}

customElements.define("derm-heatmap", DermHeatmap);

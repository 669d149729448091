// @ts-check
/**
 * <derm-heatmap>: the upright picture, with zoom; after an answer also the assessed region and the heatmap
 * over it, as lines or as colours.
 */

import { button, el, icon, setVars, svg } from "../dom.js";
import { currentLanguage, inLanguage, percent, t } from "../i18n.js";
import { OutlineDrawing } from "../lesion/drawing.js";
import { drawn } from "./contours.js";
import { pullSideways } from "./sideways.js";
import { Zoom } from "./zoom.js";

/** @typedef {import("../api.js").Assessment} Assessment */

const STYLES = ["lines", "colours"];
let elements = 0;
const OPACITY = 100; // its colours are already transparent, more so for lower values

/** Methods: `show`, `turn`, `turnStyle`, `key`. */
export class DermHeatmap extends HTMLElement {
  #photo = /** @type {HTMLImageElement} */ (el("img", { class: "photo", alt: "" }));
  #missing = el("p", { class: "no-preview", hidden: true });
  #heat = /** @type {HTMLImageElement} */ (el("img", { class: "heat", alt: "" }));
  #lines = svg("svg", {
    class: "lines",
    viewBox: "0 0 1 1",
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  #divider = el("span", { class: "divider", "aria-hidden": "true" });
  /** The lesion's outline. */
  outline = new OutlineDrawing();
  #region = el(
    "div",
    { class: "region", hidden: true },
    this.#heat,
    this.#lines,
    this.outline.drawing,
    this.#divider,
    this.outline.handles,
  );
  #pane = el("div", { class: "pane" }, this.#photo, this.#missing, this.#region);
  #frame = el("div", { class: "frame", dir: "ltr" }, this.#pane);
  #stage = el("div", { class: "stage", role: "group", tabindex: 0 }, this.#frame);
  #zoom = new Zoom(this.#frame, this.#pane, () => inLanguage(this.#speaks, () => this.#sayZoom()));
  #level = el("output", { class: "value", "aria-live": "polite" });
  #out = zoomButton("M4 10h12", () => this.#zoom.out());
  #in = zoomButton("M4 10h12M10 4v12", () => this.#zoom.in());
  #whole = button("", () => this.#zoom.whole(), "zoom-whole");
  #zooms = el("div", { class: "zooms", role: "group" }, this.#out, this.#level, this.#in, this.#whole);
  #caption = el("p", { class: "caption", hidden: true });
  #shown = /** @type {HTMLInputElement} */ (
    el("input", { type: "checkbox", id: "heat-shown", checked: true })
  );
  #split = range({ id: "heat-split", step: 1, dir: "ltr" });
  #opacity = range({ id: "heat-opacity", step: 5 });
  #names = {
    shown: el("span"),
    split: el("span"),
    opacity: el("span"),
    lines: el("span"),
    colours: el("span"),
  };
  #styles = STYLES.map(styleInput);
  #styleName = el("legend", { class: "visually-hidden" });
  #controls = el(
    "div",
    { class: "controls", hidden: true, role: "group" },
    el("label", { class: "switch" }, this.#shown, this.#names.shown),
    el(
      "fieldset",
      { class: "heat-styles" },
      this.#styleName,
      el("label", { class: "switch" }, this.#styles[0], this.#names.lines),
      el("label", { class: "switch" }, this.#styles[1], this.#names.colours),
    ),
    el("label", { class: "slider" }, this.#names.split, this.#split.input, this.#split.output),
    el("label", { class: "slider" }, this.#names.opacity, this.#opacity.input, this.#opacity.output),
  );
  /** @type {Assessment | null} */
  #assessment = null;
  #speaks = currentLanguage();

  constructor() {
    super();
    for (const type of ["load", "error"]) {
      this.#photo.addEventListener(type, () => inLanguage(this.#speaks, () => this.#layout()));
    }
    this.#heat.addEventListener("load", () => this.#lines.replaceChildren(...drawn(this.#heat)));
    this.#stage.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (this.#zoom.key(event.key)) event.preventDefault();
    });
    elements += 1;
    for (const input of this.#styles) {
      input.name = `heat-style-${elements}`;
      input.addEventListener("change", () => inLanguage(this.#speaks, () => this.#layout()));
    }
    this.#shown.addEventListener("change", () => this.#blend());
    for (const { input } of [this.#split, this.#opacity])
      input.addEventListener("input", () => this.#blend());
    this.#region.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  connectedCallback() {
    this.replaceChildren(this.#stage, this.#zooms, this.outline.switch, this.#controls, this.#caption);
  }

  /**
   * @param {{src: string, alt: string, assessment: Assessment | null,
   *   corrected?: import("../lesion/shape.js").Point[] | null, clinical?: boolean}} content `corrected`: the
   *   outline corrected by hand
   */
  show({ src, alt, assessment, corrected = null, clinical = false }) {
    this.#speaks = currentLanguage();
    if (this.#photo.getAttribute("src") !== src) {
      if (src) this.#photo.src = src;
      else this.#photo.removeAttribute("src");
      this.#zoom.reset();
    }
    this.#photo.alt = alt;
    if (assessment !== this.#assessment) {
      this.#assessment = assessment;
      this.#shown.checked = true;
      this.#split.input.value = "100";
      this.#opacity.input.value = String(OPACITY);
      this.#heat.removeAttribute("src");
      this.#lines.replaceChildren();
      if (assessment?.heatmap) this.#heat.src = assessment.heatmap;
    }
    this.outline.show(assessment, corrected, clinical);
    this.#missing.textContent = t("heatmap.noPreview");
    this.#controls.setAttribute("aria-label", t("heatmap.controls"));
    this.#names.shown.textContent = t("heatmap.show");
    this.#names.split.textContent = t("heatmap.split");
    this.#names.opacity.textContent = t("heatmap.opacity");
    this.#names.lines.textContent = t("heatmap.lines");
    this.#names.colours.textContent = t("heatmap.colours");
    this.#styleName.textContent = t("heatmap.style");
    this.#stage.setAttribute("aria-label", t("zoom.keys"));
    this.#zooms.setAttribute("aria-label", t("zoom.title"));
    this.#out.setAttribute("aria-label", t("keys.out"));
    this.#in.setAttribute("aria-label", t("keys.in"));
    this.#whole.textContent = t("keys.whole");
    this.#sayZoom();
    this.#layout();
    this.#blend();
  }

  /** Shows or hides the heatmap. */
  turn() {
    if (!this.#controls.hidden) this.#shown.click();
  }

  /** Switches between lines and colours. */
  turnStyle() {
    if (!this.#controls.hidden) this.#styles.find((input) => !input.checked)?.click();
  }

  /** @param {string} key @returns {boolean} whether it is a zoom key, such as + and - */
  key(key) {
    return !this.#zooms.hidden && this.#zoom.key(key);
  }

  #sayZoom() {
    const level = percent(this.#zoom.scale, 0);
    if (this.#level.textContent !== level) this.#level.textContent = level;
  }

  get #asLines() {
    return this.#styles[0].checked;
  }

  /** Gives the frame the picture's aspect ratio and places the region where the server reported it. */
  #layout() {
    const { naturalWidth, naturalHeight, complete } = this.#photo;
    const visible = naturalWidth > 0;
    this.#photo.hidden = !visible;
    this.#missing.hidden = visible || !complete || !this.#photo.hasAttribute("src");

    const assessment = this.#assessment;
    const width = assessment?.image.width || naturalWidth || 4;
    const height = assessment?.image.height || naturalHeight || 3;
    // If the browser rotates the picture differently from the server, the region would be misplaced.
    const fits = !visible || (naturalWidth === width && naturalHeight === height);
    setVars(this.#frame, { ratio: (visible ? naturalWidth / naturalHeight : width / height).toFixed(6) });

    this.#region.hidden = !assessment || !fits;
    const mapped = Boolean(assessment?.heatmap);
    this.#zooms.hidden = !visible;
    this.#region.toggleAttribute("data-mapped", mapped);
    this.#heat.hidden = !mapped || this.#asLines;
    this.#lines.toggleAttribute("hidden", !mapped || !this.#asLines);
    this.#divider.hidden = !mapped;
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
    const says = !fits
      ? "turned"
      : assessment.decision === "rejected"
        ? "rejected"
        : assessment.heatmap
          ? this.#asLines
            ? "meaningLines"
            : "meaning"
          : "region";
    this.#caption.textContent = t(`heatmap.${says}`);
  }

  /** @param {PointerEvent} down */
  #drag(down) {
    if (this.#controls.hidden || !this.#shown.checked || !down.isPrimary || down.button !== 0) return;
    if (this.#zoom.scale > 1) return; // dragging pans an enlarged picture
    pullSideways(down, this.#region, {
      before: Number(this.#split.input.value),
      stop: () => this.#zoom.pinching,
      move: (share) => {
        this.#split.input.value = String(share);
        this.#blend();
      },
    });
  }

  #blend() {
    const on = this.#shown.checked;
    const opacity = on ? String(Number(this.#opacity.input.value) / 100) : "0";
    for (const drawing of [this.#heat, this.#lines]) drawing.style.opacity = opacity;
    setVars(this.#region, { split: this.#split.input.value });
    this.#divider.toggleAttribute("data-off", !on);
    for (const { input, output } of [this.#split, this.#opacity]) {
      input.disabled = !on;
      const value = inLanguage(this.#speaks, () => percent(Number(input.value) / 100, 0));
      input.setAttribute("aria-valuetext", value);
      output.textContent = value;
    }
  }
}

/** @param {string} d path of its icon @param {() => void} act */
function zoomButton(d, act) {
  const made = button("", act, "zoom-step");
  made.append(icon("", "0 0 20 20", { d }));
  return made;
}

/** @param {string} value @param {number} at */
const styleInput = (value, at) =>
  /** @type {HTMLInputElement} */ (el("input", { type: "radio", value, checked: at === 0 }));

/**
 * A slider, left to right over the picture in every language.
 * @param {Record<string, unknown>} attributes
 */
function range(attributes) {
  const input = /** @type {HTMLInputElement} */ (
    el("input", { type: "range", min: 0, max: 100, ...attributes })
  );
  // visual only: the slider announces its value itself
  return { input, output: el("span", { class: "value", "aria-hidden": "true" }) };
}

customElements.define("derm-heatmap", DermHeatmap);

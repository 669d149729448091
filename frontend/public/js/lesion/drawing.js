// @ts-check
/** The lesion's outline over the picture, with a switch, and the handles with which clinicians correct it. */

import { el, svg } from "../dom.js";
import { t } from "../i18n.js";
import { HANDLES, evenly, handleOf, pulled } from "./correction.js";

/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {import("./shape.js").Point} Point */

const STEP = 0.005; // of the region's side
const ARROWS = /** @type {Record<string, Point>} */ ({
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
});

const KINDS = ["halo", "line"];

/** @param {Point[]} points */
const written = (points) => points.map((point) => point.join(",")).join(" ");

/**
 * A line over the whole picture.
 *
 * @param {Point[]} line closed, in pixels of the picture
 * @param {{width: number, height: number}} image
 * @param {string} [kind] a further class
 */
export function lineOver(line, { width, height }, kind = "") {
  const points = written(line);
  const lines = KINDS.map((line) => svg("polygon", { class: line, points }));
  const attributes = { class: `outline ${kind}`.trim(), viewBox: `0 0 ${width} ${height}` };
  return svg("svg", { ...attributes, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
}

/**
 * The outline over the whole picture, for the history and for print.
 *
 * @param {Pick<import("./card.js").Observed, "lesion" | "image">} observed with a lesion
 * @param {Point[] | null | undefined} corrected
 * @param {string} [kind] a further class
 */
export function outlineOver({ lesion, image }, corrected, kind) {
  const drawn = lineOver(corrected ?? lesion?.outline ?? [], image, kind);
  drawn.toggleAttribute("data-corrected", Boolean(corrected));
  return drawn;
}

/**
 * Events on the document: `outline` with `{points}`, the corrected line, null for the model's; `correcting`
 * when correcting begins and ends, with `{left}`, whether Escape ended it.
 */
export class OutlineDrawing {
  #lines = KINDS.map((kind) => svg("polygon", { class: kind }));
  drawing = svg(
    "svg",
    { class: "outline", preserveAspectRatio: "none", "aria-hidden": "true" },
    ...this.#lines,
  );
  #shown = /** @type {HTMLInputElement} */ (el("input", { type: "checkbox", id: "outline-shown" }));
  #name = el("span");
  switch = el("label", { class: "switch outline-switch", hidden: true }, this.#shown, this.#name);
  #handles = Array.from({ length: HANDLES }, (_, at) => this.#handle(at));
  handles = el("div", { class: "outline-handles", role: "group", hidden: true }, ...this.#handles);
  /** @type {Assessment | null} */
  #assessment = null;
  /** @type {Point[] | null} */
  #corrected = null;
  /** @type {(Point[] | null)[]} */
  #before = [];
  #clinical = false;

  constructor() {
    this.#shown.addEventListener("change", () => {
      if (this.correcting) this.correct(false);
      else this.#draw();
    });
    this.handles.addEventListener("pointerdown", (event) => this.#drag(event));
    this.handles.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.correct(false, true);
    });
  }

  /** @param {Assessment | null} assessment @param {Point[] | null} corrected @param {boolean} clinical */
  show(assessment, corrected, clinical) {
    if (assessment !== this.#assessment || clinical !== this.#clinical) {
      this.#shown.checked = clinical;
      this.handles.hidden = true;
    }
    if (assessment !== this.#assessment) this.#before = [];
    this.#assessment = assessment;
    this.#corrected = corrected;
    this.#clinical = clinical;
    this.#name.textContent = t("lesion.show");
    this.handles.setAttribute("aria-label", t("lesion.correct"));
    for (const [at, handle] of this.#handles.entries()) {
      handle.setAttribute("aria-label", t("lesion.point", { number: at + 1, total: HANDLES }));
    }
    this.switch.hidden = !assessment?.lesion;
    this.#draw();
  }

  /** Shows or hides the outline. */
  turn() {
    if (!this.switch.hidden) this.#shown.click();
  }

  get correcting() {
    return !this.handles.hidden;
  }

  get corrected() {
    return this.#corrected !== null;
  }

  get mayUndo() {
    return this.#before.length > 0;
  }

  /** @param {boolean} begin or end @param {boolean} [left] by Escape */
  correct(begin, left = false) {
    if (begin) this.#shown.checked = true;
    this.handles.hidden = !begin;
    this.#draw();
    if (begin) this.#handles[0].focus();
    document.dispatchEvent(new CustomEvent("correcting", { detail: { left } }));
  }

  undo() {
    if (this.mayUndo) this.#set(this.#before.pop() ?? null);
  }

  /** Restores the model's outline. */
  reset() {
    if (!this.#corrected) return;
    this.#before.push(this.#corrected);
    this.#set(null);
  }

  /** The line to drag. @returns {Point[]} */
  get #places() {
    return this.#corrected ?? evenly(/** @type {Point[]} */ (this.#assessment?.lesion?.outline));
  }

  /** @param {Point[] | null} points */
  #set(points) {
    this.#corrected = points;
    this.#draw();
    document.dispatchEvent(new CustomEvent("outline", { detail: { points } }));
  }

  #draw() {
    const lesion = this.#assessment?.lesion;
    const visible = Boolean(lesion) && this.#shown.checked;
    this.drawing.toggleAttribute("hidden", !visible);
    if (!this.#assessment || !lesion) return;
    const { x, y, width, height } = this.#assessment.region;
    this.drawing.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    this.drawing.toggleAttribute("data-corrected", this.#corrected !== null);
    for (const line of this.#lines) line.setAttribute("points", written(this.#corrected ?? lesion.outline));
    if (this.handles.hidden) return;
    const places = this.#places;
    for (const [at, handle] of this.#handles.entries()) {
      const [left, top] = handleOf(places, at);
      Object.assign(handle.style, {
        left: `${(100 * (left - x)) / width}%`,
        top: `${(100 * (top - y)) / height}%`,
      });
    }
  }

  /** @param {number} at */
  #handle(at) {
    const handle = el("button", { type: "button", class: "outline-handle" });
    handle.addEventListener("keydown", (event) => {
      const arrow = ARROWS[event.key];
      if (!arrow || !this.#assessment || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const { region } = this.#assessment;
      const step = STEP * region.width * (event.shiftKey ? 5 : 1);
      const places = this.#places;
      const [x, y] = handleOf(places, at);
      this.#before.push(this.#corrected);
      this.#set(pulled(places, at, [x + step * arrow[0], y + step * arrow[1]], region));
    });
    return handle;
  }

  /** The nearest handle, since handles overlap around a small spot. @param {PointerEvent} event */
  #nearest({ clientX, clientY }) {
    const away = this.#handles.map((handle) => {
      const { left, top, width, height } = handle.getBoundingClientRect();
      return Math.hypot(left + width / 2 - clientX, top + height / 2 - clientY);
    });
    return away.indexOf(Math.min(...away));
  }

  /** @param {PointerEvent} down */
  #drag(down) {
    if (!this.#assessment || !down.isPrimary || down.button !== 0) return;
    down.stopPropagation(); // moves neither the picture nor the heatmap's divider
    const at = this.#nearest(down);
    this.handles.setPointerCapture(down.pointerId);
    const { region } = this.#assessment;
    const before = this.#corrected;
    const places = this.#places;
    const [x, y] = handleOf(places, at);
    const { width } = this.handles.getBoundingClientRect();
    const listening = new AbortController();
    const { signal } = listening;
    const move = (/** @type {PointerEvent} */ { clientX, clientY }) => {
      const scale = region.width / width;
      const to = /** @type {Point} */ ([
        x + (clientX - down.clientX) * scale,
        y + (clientY - down.clientY) * scale,
      ]);
      this.#corrected = pulled(places, at, to, region);
      this.#draw();
    };
    const end = () => {
      listening.abort();
      this.#handles[at].focus();
      if (this.#corrected === before) return;
      this.#before.push(before);
      this.#set(this.#corrected);
    };
    this.handles.addEventListener("pointermove", move, { signal });
    for (const type of ["pointerup", "pointercancel"]) this.handles.addEventListener(type, end, { signal });
  }
}

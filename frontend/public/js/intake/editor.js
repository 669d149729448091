// @ts-check
/**
 * The dialog to rotate a picture and crop it to the square to be assessed, with pointer, sliders or arrow
 * keys. It stays open until the cropped picture is ready.
 */

import { button, el, openDialog, setVars } from "../dom.js";
import { number, t } from "../i18n.js";
import { bitmapOf, encoded } from "./bitmap.js";

const SMALLEST = 100; // pixels per side that the server accepts
const STEP = 0.02; // of the frame's side, for an arrow key
const LOSSLESS_PIXELS = 4_000_000; // larger results become JPEG, or they would be too large to send
const SHOWN_PIXELS = 900;

/**
 * Quarter turns clockwise; centre and side in pixels of the rotated picture.
 *
 * @typedef {{turns: number, x: number, y: number, side: number}} Cut
 */
/** @typedef {{file: File, cut: Cut | null}} Edited `cut` null: the original picture */

/**
 * @param {File} file the original
 * @param {Cut | null} before the current crop
 * @param {() => void} begin called when a crop is chosen, before the cropped picture is ready
 * @returns {Promise<Edited | null>} null if nothing was changed
 */
export async function edit(file, before, begin) {
  const bitmap = await bitmapOf(file);
  try {
    return await new Editor(bitmap, file, before, begin).closed;
  } finally {
    bitmap.close();
  }
}

/** @param {ImageBitmap} bitmap @param {number} turns */
const sizeOf = ({ width, height }, turns) =>
  turns % 2 ? { width: height, height: width } : { width, height };

/**
 * @param {ImageBitmap} bitmap
 * @param {number} turns
 * @returns {Cut} the square that is assessed without cropping
 */
function wholeCut(bitmap, turns) {
  const { width, height } = sizeOf(bitmap, turns);
  return { turns, x: width / 2, y: height / 2, side: Math.min(width, height) };
}

/** @param {Cut} one @param {Cut} other */
const alike = (one, other) =>
  one.turns === other.turns &&
  [one.x - other.x, one.y - other.y, one.side - other.side].every(
    (difference) => Math.abs(difference) <= 0.5,
  );

class Editor {
  /** @type {Promise<Edited | null>} */
  closed;
  /** @type {Edited | null} */
  #result = null;
  #canvas = /** @type {HTMLCanvasElement} */ (el("canvas", { "aria-hidden": "true" }));
  #frame = el(
    "div",
    {
      class: "cut-frame",
      tabindex: 0,
      role: "group",
      "aria-label": t("editor.frame"),
      "aria-describedby": "cut-keys",
    },
    el("span", { class: "cut-handle" }),
  );
  #stage = el("div", { class: "cut-stage", dir: "ltr" }, this.#canvas, this.#frame);
  #said = el("p", { class: "hint", role: "status" });
  #size = this.#slider("size", (share) => {
    const { smallest, largest } = this.#limits();
    this.#cut.side = smallest + share * (largest - smallest);
  });
  #across = this.#slider("across", (share) => {
    this.#cut.x = this.#cut.side / 2 + share * (this.#limits().width - this.#cut.side);
  });
  #down = this.#slider("down", (share) => {
    this.#cut.y = this.#cut.side / 2 + share * (this.#limits().height - this.#cut.side);
  });
  #apply = button(t("editor.apply"), () => this.#choose(), "primary");

  /**
   * @param {ImageBitmap} bitmap
   * @param {File} file
   * @param {Cut | null} before
   * @param {() => void} begin
   */
  constructor(bitmap, file, before, begin) {
    this.bitmap = bitmap;
    this.file = file;
    this.begin = begin;
    this.before = before ?? wholeCut(bitmap, 0);
    this.#cut = { ...this.before };
    this.#frame.addEventListener("keydown", (event) => this.#key(event));
    this.#frame.addEventListener("pointerdown", (event) => this.#drag(event));
    this.dialog = this.#open();
    this.closed = new Promise((resolve) => {
      this.dialog.addEventListener("close", () => resolve(this.#result));
    });
    this.#paint();
    this.#frame.focus();
  }

  /** @type {Cut} */
  #cut;

  #open() {
    const turnLeft = button(t("editor.turnLeft"), () => this.#turn(-1));
    const turnRight = button(t("editor.turnRight"), () => this.#turn(1));
    const whole = button(t("editor.whole"), () => {
      this.#cut = wholeCut(this.bitmap, 0);
      this.#paint();
      this.#said.textContent = t("editor.wholeDone");
    });
    return openDialog(
      "editor",
      el("h2", {}, t("editor.title")),
      el("p", { class: "hint" }, t("editor.explained")),
      el("div", { class: "cut-room" }, this.#stage),
      el("p", { class: "hint", id: "cut-keys" }, t("editor.keys")),
      el("div", { class: "actions" }, turnLeft, turnRight, whole),
      el("div", { class: "cut-sliders" }, this.#size.label, this.#across.label, this.#down.label),
      this.#said,
      el(
        "div",
        { class: "actions" },
        this.#apply,
        button(t("common.cancel"), () => this.dialog.close()),
      ),
    );
  }

  /** @param {string} name @param {(share: number) => void} move */
  #slider(name, move) {
    const attributes = { type: "range", min: 0, max: 100, step: 1, dir: "ltr" };
    const input = /** @type {HTMLInputElement} */ (el("input", attributes));
    input.addEventListener("input", () => {
      move(Number(input.value) / 100);
      this.#draw();
    });
    return { input, label: el("label", { class: "slider" }, el("span", {}, t(`editor.${name}`)), input) };
  }

  #limits() {
    const { width, height } = sizeOf(this.bitmap, this.#cut.turns);
    const largest = Math.min(width, height);
    return { width, height, largest, smallest: Math.min(SMALLEST, largest) };
  }

  /** Keeps the square inside the picture, and draws it. */
  #draw() {
    const { width, height, smallest, largest } = this.#limits();
    const cut = this.#cut;
    cut.side = Math.round(Math.min(largest, Math.max(smallest, cut.side)));
    const half = cut.side / 2;
    cut.x = Math.min(width - half, Math.max(half, cut.x));
    cut.y = Math.min(height - half, Math.max(half, cut.y));
    const [left, top] = [cut.x - half, cut.y - half];
    setVars(this.#stage, {
      ratio: (width / height).toFixed(6),
      left: (100 * left) / width,
      top: (100 * top) / height,
      wide: (100 * cut.side) / width,
      high: (100 * cut.side) / height,
    });
    /** @param {HTMLInputElement} input @param {number} value @param {number} room @param {string} text */
    const set = (input, value, room, text) => {
      input.value = String(room > 0 ? Math.round((100 * value) / room) : 50);
      input.disabled = room <= 0;
      input.setAttribute("aria-valuetext", text);
    };
    const pixels = { side: cut.side, left: Math.round(left), top: Math.round(top) };
    set(this.#size.input, cut.side - smallest, largest - smallest, t("editor.pixels", { side: pixels.side }));
    set(this.#across.input, left, width - cut.side, t("editor.fromLeft", { pixels: pixels.left }));
    set(this.#down.input, top, height - cut.side, t("editor.fromTop", { pixels: pixels.top }));
  }

  #paint() {
    const { width, height } = sizeOf(this.bitmap, this.#cut.turns);
    const zoom = Math.min(1, SHOWN_PIXELS / Math.max(width, height));
    this.#canvas.width = Math.max(1, Math.round(width * zoom));
    this.#canvas.height = Math.max(1, Math.round(height * zoom));
    drawTurned(this.#canvas, this.bitmap, this.#cut.turns, zoom);
    this.#draw();
  }

  /** @param {number} by quarter turns */
  #turn(by) {
    this.#cut = wholeCut(this.bitmap, (this.#cut.turns + by + 4) % 4);
    this.#paint();
    this.#said.textContent = t("editor.turned", { degrees: number(this.#cut.turns * 90) });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const cut = this.#cut;
    const move = cut.side * STEP;
    const steps = /** @type {Record<string, () => void>} */ ({
      ArrowLeft: () => (cut.x -= move),
      ArrowRight: () => (cut.x += move),
      ArrowUp: () => (cut.y -= move),
      ArrowDown: () => (cut.y += move),
      "+": () => (cut.side *= 1.05),
      "-": () => (cut.side /= 1.05),
    });
    if (!steps[event.key]) return;
    event.preventDefault();
    steps[event.key]();
    this.#draw();
  }

  /** Moves the square, or resizes it by its handle. @param {PointerEvent} event */
  #drag(event) {
    const cut = this.#cut;
    const resizing = event.target !== this.#frame;
    const zoom = sizeOf(this.bitmap, cut.turns).width / this.#stage.getBoundingClientRect().width;
    const start = { ...cut, left: cut.x - cut.side / 2, top: cut.y - cut.side / 2 };
    this.#frame.setPointerCapture(event.pointerId);
    const listening = new AbortController();
    const { signal } = listening;
    const move = (/** @type {PointerEvent} */ { clientX, clientY }) => {
      const [dx, dy] = [(clientX - event.clientX) * zoom, (clientY - event.clientY) * zoom];
      if (resizing) {
        const { width, height, smallest } = this.#limits();
        const room = Math.min(width - start.left, height - start.top);
        cut.side = Math.min(room, Math.max(smallest, start.side + Math.max(dx, dy)));
        cut.x = start.left + cut.side / 2;
        cut.y = start.top + cut.side / 2;
      } else {
        cut.x = start.x + dx;
        cut.y = start.y + dy;
      }
      this.#draw();
    };
    this.#frame.addEventListener("pointermove", move, { signal });
    for (const end of ["pointerup", "pointercancel"]) {
      this.#frame.addEventListener(end, () => listening.abort(), { signal });
    }
  }

  /**
   * Applies the crop: the old picture is no longer assessed, and the dialog waits for the new one.
   */
  async #choose() {
    if (this.#apply.getAttribute("aria-disabled") === "true") return;
    const cut = { ...this.#cut };
    if (!alike(cut, this.before)) {
      this.#apply.setAttribute("aria-disabled", "true");
      this.#said.textContent = t("editor.working");
      this.begin();
      const asItCame = alike(cut, wholeCut(this.bitmap, 0));
      const file = asItCame ? this.file : await render(this.bitmap, cut, this.file);
      if (!file) {
        this.#apply.removeAttribute("aria-disabled");
        this.#said.textContent = t("editor.failed");
        return;
      }
      if (this.dialog.open) this.#result = { file, cut: asItCame ? null : cut };
    }
    this.dialog.close();
  }
}

/**
 * @param {HTMLCanvasElement} canvas of the rotated picture's size times zoom
 * @param {ImageBitmap} bitmap
 * @param {number} turns
 * @param {number} zoom
 * @param {{x: number, y: number}} [origin] pixel of the rotated picture at the canvas' upper left
 */
function drawTurned(canvas, bitmap, turns, zoom, origin = { x: 0, y: 0 }) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const { width, height } = sizeOf(bitmap, turns);
  context.imageSmoothingQuality = "high";
  context.scale(zoom, zoom);
  context.translate(width / 2 - origin.x, height / 2 - origin.y);
  context.rotate((turns * Math.PI) / 2);
  context.drawImage(bitmap, -bitmap.width / 2, -bitmap.height / 2);
}

/**
 * @param {ImageBitmap} bitmap
 * @param {Cut} cut
 * @param {File} file
 * @returns {Promise<File | null>} null if the browser cannot encode it
 */
async function render(bitmap, cut, file) {
  const { width, height } = sizeOf(bitmap, cut.turns);
  const whole = alike(cut, wholeCut(bitmap, cut.turns));
  const canvas = document.createElement("canvas");
  canvas.width = whole ? width : cut.side; // only rotated: nothing is cropped
  canvas.height = whole ? height : cut.side;
  const corner = { x: Math.round(cut.x - cut.side / 2), y: Math.round(cut.y - cut.side / 2) };
  drawTurned(canvas, bitmap, cut.turns, 1, whole ? { x: 0, y: 0 } : corner);
  const lossless = canvas.width * canvas.height <= LOSSLESS_PIXELS;
  const type = lossless ? "image/png" : "image/jpeg";
  const blob = await encoded(canvas, type);
  if (!blob) return null;
  return new File([blob], file.name.replace(/\.\w+$/, "") + (lossless ? ".png" : ".jpg"), { type });
}

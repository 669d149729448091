// @ts-check
/** The dialog to turn a picture and cut it to the square that is to be judged: by pointer, by sliders, by arrow keys. */

import { button, el, openDialog, setVars } from "../dom.js";
import { number, t } from "../i18n.js";

const SMALLEST = 100; // pixels a side that the server takes
const STEP = 0.02; // of the frame's side, for an arrow key
const LOSSLESS_PIXELS = 4_000_000; // larger results become JPEG, or they would be too large to send

/** @typedef {{turns: number, x: number, y: number, side: number}} Cut quarter turns clockwise; centre and side in pixels of the turned picture */

/**
 * @param {File} file
 * @returns {Promise<File | null>} the changed picture, or null when nothing was changed
 */
export async function edit(file) {
  const bitmap = await createImageBitmap(file);
  try {
    const cut = await ask(bitmap);
    return cut ? await render(bitmap, cut, file) : null;
  } finally {
    bitmap.close();
  }
}

/** @param {ImageBitmap} bitmap @param {number} turns */
const sizeOf = ({ width, height }, turns) => (turns % 2 ? { width: height, height: width } : { width, height });

/** @param {ImageBitmap} bitmap @param {number} turns @returns {Cut} the square that is judged when nothing is cut */
function wholeCut(bitmap, turns) {
  const { width, height } = sizeOf(bitmap, turns);
  return { turns, x: width / 2, y: height / 2, side: Math.min(width, height) };
}

/**
 * @param {ImageBitmap} bitmap
 * @returns {Promise<Cut | null>}
 */
function ask(bitmap) {
  let cut = wholeCut(bitmap, 0);
  const canvas = /** @type {HTMLCanvasElement} */ (el("canvas", { "aria-hidden": "true" }));
  const frame = el("div", { class: "cut-frame", tabindex: 0, role: "group", "aria-label": t("editor.frame"), "aria-describedby": "cut-keys" }, el("span", { class: "cut-handle" }));
  const stage = el("div", { class: "cut-stage", dir: "ltr" }, canvas, frame);
  const said = el("p", { class: "visually-hidden", role: "status" });
  /** @param {string} name @param {(value: number) => void} move */
  const slider = (name, move) => {
    const input = /** @type {HTMLInputElement} */ (el("input", { type: "range", min: 0, max: 100, step: 1, dir: "ltr" }));
    input.addEventListener("input", () => {
      move(Number(input.value) / 100);
      draw();
    });
    return { input, label: el("label", { class: "slider" }, el("span", {}, t(`editor.${name}`)), input) };
  };
  const limits = () => {
    const { width, height } = sizeOf(bitmap, cut.turns);
    const largest = Math.min(width, height);
    return { width, height, largest, smallest: Math.min(SMALLEST, largest) };
  };
  const size = slider("size", (share) => {
    const { smallest, largest } = limits();
    cut.side = smallest + share * (largest - smallest);
  });
  const across = slider("across", (share) => (cut.x = cut.side / 2 + share * (limits().width - cut.side)));
  const down = slider("down", (share) => (cut.y = cut.side / 2 + share * (limits().height - cut.side)));

  const draw = () => {
    const { width, height, smallest, largest } = limits();
    cut.side = Math.round(Math.min(largest, Math.max(smallest, cut.side)));
    const half = cut.side / 2;
    cut.x = Math.min(width - half, Math.max(half, cut.x));
    cut.y = Math.min(height - half, Math.max(half, cut.y));
    setVars(stage, {
      ratio: (width / height).toFixed(6),
      left: (100 * (cut.x - half)) / width,
      top: (100 * (cut.y - half)) / height,
      wide: (100 * cut.side) / width,
      high: (100 * cut.side) / height,
    });
    /** @param {HTMLInputElement} input @param {number} value @param {number} room @param {string} text */
    const set = (input, value, room, text) => {
      input.value = String(room > 0 ? Math.round((100 * value) / room) : 50);
      input.disabled = room <= 0;
      input.setAttribute("aria-valuetext", text);
    };
    set(size.input, cut.side - smallest, largest - smallest, t("editor.pixels", { side: Math.round(cut.side) }));
    set(across.input, cut.x - half, width - cut.side, t("editor.fromLeft", { pixels: Math.round(cut.x - half) }));
    set(down.input, cut.y - half, height - cut.side, t("editor.fromTop", { pixels: Math.round(cut.y - half) }));
  };
  const paint = () => {
    const { width, height } = sizeOf(bitmap, cut.turns);
    const zoom = Math.min(1, 900 / Math.max(width, height));
    canvas.width = Math.max(1, Math.round(width * zoom));
    canvas.height = Math.max(1, Math.round(height * zoom));
    turned(canvas, bitmap, cut.turns, zoom);
    draw();
  };
  /** @param {number} by quarter turns */
  const turn = (by) => {
    cut = wholeCut(bitmap, (cut.turns + by + 4) % 4);
    paint();
    said.textContent = t("editor.turned", { degrees: number(cut.turns * 90) });
  };

  frame.addEventListener("keydown", (event) => {
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
    draw();
  });
  frame.addEventListener("pointerdown", (event) => {
    const resizing = event.target !== frame;
    const zoom = sizeOf(bitmap, cut.turns).width / stage.getBoundingClientRect().width;
    const start = { ...cut, left: cut.x - cut.side / 2, top: cut.y - cut.side / 2, px: event.clientX, py: event.clientY };
    frame.setPointerCapture(event.pointerId);
    const listening = new AbortController();
    const { signal } = listening;
    frame.addEventListener(
      "pointermove",
      ({ clientX, clientY }) => {
        const [dx, dy] = [(clientX - start.px) * zoom, (clientY - start.py) * zoom];
        if (resizing) {
          const { width, height, smallest } = limits();
          const room = Math.min(width - start.left, height - start.top);
          cut.side = Math.min(room, Math.max(smallest, start.side + Math.max(dx, dy)));
          cut.x = start.left + cut.side / 2;
          cut.y = start.top + cut.side / 2;
        } else {
          cut.x = start.x + dx;
          cut.y = start.y + dy;
        }
        draw();
      },
      { signal },
    );
    for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, () => listening.abort(), { signal });
  });

  return new Promise((resolve) => {
    /** @type {Cut | null} */
    let chosen = null;
    const dialog = openDialog(
      "editor",
      el("h2", {}, t("editor.title")),
      el("p", { class: "hint" }, t("editor.explained")),
      el("div", { class: "cut-room" }, stage),
      el("p", { class: "hint", id: "cut-keys" }, t("editor.keys")),
      el("div", { class: "actions" }, button(t("editor.turnLeft"), () => turn(-1)), button(t("editor.turnRight"), () => turn(1))),
      el("div", { class: "cut-sliders" }, size.label, across.label, down.label),
      el(
        "div",
        { class: "actions" },
        button(
          t("editor.apply"),
          () => {
            const { turns, x, y, side } = wholeCut(bitmap, cut.turns);
            if (turns || Math.abs(x - cut.x) > 0.5 || Math.abs(y - cut.y) > 0.5 || Math.abs(side - cut.side) > 0.5) chosen = { ...cut };
            dialog.close();
          },
          "primary",
        ),
        button(t("common.cancel"), () => dialog.close()),
      ),
      said,
    );
    dialog.addEventListener("close", () => resolve(chosen));
    paint();
    frame.focus();
  });
}

/**
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas of the turned picture's size times zoom
 * @param {ImageBitmap} bitmap
 * @param {number} turns
 * @param {number} zoom
 * @param {{x: number, y: number}} [origin] pixel of the turned picture that comes to the canvas' upper left
 */
function turned(canvas, bitmap, turns, zoom, origin = { x: 0, y: 0 }) {
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
 */
async function render(bitmap, cut, file) {
  const { width, height } = sizeOf(bitmap, cut.turns);
  const whole = cut.side === Math.min(width, height) && Math.abs(cut.x - width / 2) < 1 && Math.abs(cut.y - height / 2) < 1;
  const canvas = document.createElement("canvas");
  canvas.width = whole ? width : cut.side; // turned only: nothing is cut away
  canvas.height = whole ? height : cut.side;
  const origin = whole ? { x: 0, y: 0 } : { x: Math.round(cut.x - cut.side / 2), y: Math.round(cut.y - cut.side / 2) };
  turned(canvas, bitmap, cut.turns, 1, origin);
  const type = canvas.width * canvas.height <= LOSSLESS_PIXELS ? "image/png" : "image/jpeg";
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
  return blob ? new File([blob], file.name.replace(/\.\w+$/, "") + (type === "image/png" ? ".png" : ".jpg"), { type }) : null;
}

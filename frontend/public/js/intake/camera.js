// @ts-check
/**
 * The camera dialog: first asks to attach the dermatoscope lens, then shows the live picture in a ring, and
 * the photograph for review before it is used; or it hands over to the device's camera app. The camera is off
 * as soon as a picture is taken or the dialog is closed.
 */

import { button, el, openDialog, setVars } from "../dom.js";
import { t } from "../i18n.js";
import { encoded } from "./bitmap.js";
import { BLURRED, DARK, look } from "./looks.js";

const LOOK_MS = 400;
const SAY_MS = 2_000;
const FAILURES = /** @type {Record<string, string>} */ ({
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
});

/** The live camera needs a secure context: HTTPS or localhost. */
export const liveIsPossible = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * @param {{ghost?: string}} [options] address of an earlier picture to overlay on the live one
 * @returns {Promise<File | null>} the photograph, or null if none was taken
 */
export const photograph = ({ ghost = "" } = {}) => new CameraDialog(ghost).closed;

class CameraDialog {
  /** @type {File | null} */
  #taken = null;
  #content = el("div", { class: "camera-content" });
  #dialog = openDialog("camera", this.#content);
  /** Switches the camera off. */
  #live = new AbortController();
  #closing = new AbortController();
  /** @type {Promise<File | null>} */
  closed;

  /** @param {string} ghost */
  constructor(ghost) {
    this.ghost = ghost;
    this.closed = new Promise((resolve) => {
      this.#dialog.addEventListener("close", () => {
        this.#live.abort();
        this.#closing.abort();
        resolve(this.#taken);
      });
    });
    // another view was opened below it, for example with the back button
    const leave = () => this.#dialog.close();
    window.addEventListener("hashchange", leave, { signal: this.#closing.signal });
    this.#askForLens();
  }

  /** @param {File} file */
  #take(file) {
    this.#taken = file;
    this.#dialog.close();
  }

  #close() {
    return button(t("common.cancel"), () => this.#dialog.close());
  }

  /** @param {...(Node | null)} parts their first heading gets the focus and names the dialog */
  #show(...parts) {
    this.#content.replaceChildren(...parts.filter((part) => part !== null));
    const heading = this.#content.querySelector("h2");
    if (!heading) return;
    heading.id = "camera-title";
    heading.tabIndex = -1;
    this.#dialog.setAttribute("aria-labelledby", heading.id);
    heading.focus();
  }

  #askForLens() {
    const yes = button(t("camera.lens.yes"), () => this.#chooseWay(), "primary");
    const no = button(t("camera.lens.no"), () => this.#advise());
    this.#show(
      el("h2", {}, t("camera.lens.question")),
      el("p", {}, t("camera.lens.why")),
      el("div", { class: "actions" }, yes, no, this.#close()),
    );
  }

  #advise() {
    const lines = ["lens", "doctor"].map((line) => el("li", {}, t(`camera.advice.${line}`)));
    const close = button(t("common.close"), () => this.#dialog.close(), "primary");
    const back = button(t("common.back"), () => this.#askForLens());
    this.#show(
      el("h2", {}, t("camera.advice.title")),
      el("p", {}, t("camera.advice.meaning")),
      el("ul", { class: "plain-list" }, ...lines),
      el("p", { class: "whatever" }, t("safety.whatever")),
      el("div", { class: "actions" }, close, back),
    );
  }

  async #chooseWay() {
    if (!liveIsPossible()) {
      this.#handOver(t("camera.insecure"));
      return;
    }
    this.#show(
      el("h2", {}, t("camera.live")),
      el("p", { role: "status" }, t("camera.starting")),
      el("div", { class: "actions" }, this.#close()),
    );
    const camera = new AbortController();
    const { signal } = camera;
    this.#live = camera;
    const fail = (/** @type {unknown} */ error) => {
      if (signal.aborted) return;
      camera.abort();
      const reason = FAILURES[/** @type {Error} */ (error)?.name] ?? "other";
      this.#handOver(t(`camera.failure.${reason}`));
    };
    try {
      const view = await live(signal, this.ghost, {
        take: (canvas) => {
          camera.abort();
          this.#review(canvas);
        },
        fail,
      });
      view.at(-1)?.append(this.#close());
      if (!signal.aborted) this.#show(...view);
    } catch (error) {
      fail(error);
    }
  }

  /** Shows the photograph before it is used. @param {HTMLCanvasElement} canvas */
  #review(canvas) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", t("camera.taken"));
    const { light, sharp } = gauges();
    assess(canvas, canvas.width, canvas.height, light, sharp);
    const use = button(
      t("camera.use"),
      () =>
        fileOf(canvas).then((file) => (file ? this.#take(file) : this.#handOver(t("camera.failure.other")))),
      "primary",
    );
    const again = button(t("camera.retake"), () => this.#chooseWay());
    this.#show(
      el("h2", {}, t("camera.taken")),
      el("div", { class: "camera-stage" }, canvas),
      el("p", { class: "gauges", role: "status" }, light, sharp),
      el("div", { class: "actions" }, use, again, this.#close()),
    );
  }

  /** Offers the device's own camera app. @param {string} why there is no live picture */
  #handOver(why) {
    const accept = "image/jpeg,image/png,image/webp";
    const attributes = { type: "file", id: "photograph", accept, capture: "environment" };
    const input = /** @type {HTMLInputElement} */ (el("input", attributes));
    input.addEventListener("change", () => input.files?.[0] && this.#take(input.files[0]));
    const touch = navigator.maxTouchPoints > 0;
    const open = el("label", { class: "button primary" }, input, el("span", {}, t("camera.openDevice")));
    this.#show(
      el("h2", {}, t("camera.title")),
      el("p", { class: "notice" }, why),
      el("p", {}, t(touch ? "camera.device" : "camera.chooseInstead")),
      el("div", { class: "actions" }, touch && open, this.#close()),
    );
  }
}

const gauges = () => ({ light: el("span", { class: "gauge" }), sharp: el("span", { class: "gauge" }) });

/**
 * Says briefly whether there is enough light and whether the picture is sharp.
 *
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 * @param {HTMLElement} light
 * @param {HTMLElement} sharp
 */
function assess(source, width, height, light, sharp) {
  const { brightness, sharpness } = look(source, width, height);
  const [dark, blurred] = [brightness < DARK, sharpness < BLURRED];
  light.textContent = t(dark ? "camera.hint.dark" : "camera.hint.light");
  sharp.textContent = t(blurred ? "camera.hint.blurred" : "camera.hint.sharp");
  light.dataset.good = String(!dark);
  sharp.dataset.good = String(!blurred);
}

/**
 * @param {AbortSignal} signal ends the stream
 * @param {string} ghost
 * @param {{take: (canvas: HTMLCanvasElement) => void, fail: (error: unknown) => void}} then called when a
 *   picture is taken, or the camera stops by itself
 * @returns {Promise<HTMLElement[]>} the view, its actions last, once the camera delivers frames
 */
async function live(signal, ghost, { take, fail }) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: false,
    video: { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1920 } },
  });
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  const video = /** @type {HTMLVideoElement} */ (
    el("video", { playsinline: true, autoplay: true, "aria-label": t("camera.picture") })
  );
  video.muted = true;
  video.srcObject = stream;
  await video.play();

  const track = stream.getVideoTracks()[0];
  track.addEventListener("ended", fail);
  const { light, sharp } = gauges();
  const said = el("p", { class: "visually-hidden", role: "status" });
  let lastSaid = 0;
  const timer = setInterval(() => {
    if (!video.videoWidth) return;
    assess(video, video.videoWidth, video.videoHeight, light, sharp);
    const words = `${light.textContent} ${sharp.textContent}`;
    if (words === said.textContent || Date.now() - lastSaid < SAY_MS) return;
    said.textContent = words;
    lastSaid = Date.now();
  }, LOOK_MS);
  signal.addEventListener("abort", () => clearInterval(timer));

  const stage = el(
    "div",
    { class: "camera-stage" },
    video,
    ghost && el("img", { class: "ghost", src: ghost, alt: "" }),
    el("span", { class: "ring", "aria-hidden": "true" }),
  );
  const shutter = button(
    t("camera.take"),
    () => {
      const canvas = centredSquare(video);
      if (canvas) take(canvas);
    },
    "primary shutter",
  );
  return [
    el("h2", {}, t("camera.live")),
    el("p", { class: "hint" }, t("camera.framing")),
    stage,
    el("p", { class: "gauges", "aria-hidden": "true" }, light, sharp),
    said,
    ...(ghost ? [ghostSlider(stage)] : []),
    el("div", { class: "actions" }, shutter, torch(track)),
  ];
}

/** @param {HTMLElement} stage */
function ghostSlider(stage) {
  const input = /** @type {HTMLInputElement} */ (
    el("input", { type: "range", min: 0, max: 100, step: 5, value: 40 })
  );
  const blend = () => setVars(stage, { ghost: Number(input.value) / 100 });
  input.addEventListener("input", blend);
  blend();
  return el("label", { class: "slider" }, el("span", {}, t("camera.ghost")), input);
}

/** A switch for the device's light, if there is one. @param {MediaStreamTrack} track */
function torch(track) {
  const able = /** @type {{torch?: boolean}} */ (track.getCapabilities?.() ?? {});
  if (!able.torch) return null;
  const toggle = button(
    t("camera.torch"),
    () => {
      const on = toggle.getAttribute("aria-pressed") !== "true";
      toggle.setAttribute("aria-pressed", String(on));
      track
        .applyConstraints({ advanced: [/** @type {MediaTrackConstraintSet} */ ({ torch: on })] })
        .catch(() => toggle.remove());
    },
    "",
    { "aria-pressed": "false" },
  );
  return toggle;
}

/**
 * The centred square, the part that is assessed, at the camera's resolution; null before its first frame.
 * @param {HTMLVideoElement} video
 */
function centredSquare(video) {
  const { videoWidth, videoHeight } = video;
  const side = Math.min(videoWidth, videoHeight);
  if (side === 0) return null;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  canvas
    .getContext("2d")
    ?.drawImage(video, (videoWidth - side) / 2, (videoHeight - side) / 2, side, side, 0, 0, side, side);
  return canvas;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<File | null>} null if memory runs out
 */
async function fileOf(canvas) {
  const blob = await encoded(canvas, "image/jpeg");
  return blob ? new File([blob], `${t("camera.fileName")}.jpg`, { type: "image/jpeg" }) : null;
}

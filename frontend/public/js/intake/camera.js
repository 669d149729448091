// @ts-check
/**
 * The camera's dialog: asks for the dermatoscope lens first, then shows the live picture in a ring, or hands
 * over to the device's camera.
 */

import { button, el, openDialog, setVars } from "../dom.js";
import { t } from "../i18n.js";
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

/** The live camera needs a secure context: HTTPS, or this very machine. */
export const liveIsPossible = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * @param {{ghost?: string}} [options] address of an earlier picture to lay over the live one
 * @returns {Promise<File | null>} the photograph, or null when none was taken
 */
export const photograph = ({ ghost = "" } = {}) => new CameraDialog(ghost).closed;

class CameraDialog {
  /** @type {File | null} */
  #taken = null;
  #content = el("div", { class: "camera-content" });
  #dialog = openDialog("camera", this.#content);
  #closing = new AbortController();
  /** @type {Promise<File | null>} */
  closed;

  /** @param {string} ghost */
  constructor(ghost) {
    this.ghost = ghost;
    this.closed = new Promise((resolve) => {
      this.#dialog.addEventListener("close", () => {
        this.#closing.abort();
        resolve(this.#taken);
      });
    });
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

  /** @param {...(Node | null)} parts the first heading gets the focus and names the dialog */
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
    const { signal } = this.#closing;
    try {
      const view = await live(signal, this.ghost, (file) => this.#take(file));
      view.at(-1)?.append(this.#close());
      if (!signal.aborted) this.#show(...view);
    } catch (error) {
      const reason = FAILURES[/** @type {Error} */ (error)?.name] ?? "other";
      if (!signal.aborted) this.#handOver(t(`camera.failure.${reason}`));
    }
  }

  /** The device's own camera application. @param {string} why there is no live picture */
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

/**
 * @param {AbortSignal} signal ends the stream
 * @param {string} ghost
 * @param {(file: File) => void} take
 * @returns {Promise<HTMLElement[]>} the view, its actions last, once the camera delivers
 */
async function live(signal, ghost, take) {
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

  const light = el("span", { class: "gauge" });
  const sharp = el("span", { class: "gauge" });
  const said = el("p", { class: "visually-hidden", role: "status" });
  let lastSaid = 0;
  const timer = setInterval(() => {
    if (!video.videoWidth) return;
    const { brightness, sharpness } = look(video, video.videoWidth, video.videoHeight);
    const [dark, blurred] = [brightness < DARK, sharpness < BLURRED];
    light.textContent = t(dark ? "camera.hint.dark" : "camera.hint.light");
    sharp.textContent = t(blurred ? "camera.hint.blurred" : "camera.hint.sharp");
    light.dataset.good = String(!dark);
    sharp.dataset.good = String(!blurred);
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
    () => capture(video).then((file) => file && take(file)),
    "primary shutter",
  );
  const track = stream.getVideoTracks()[0];
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

/** The device's light, where it can be switched. @param {MediaStreamTrack} track */
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
 * The centred square, which is what is judged, at the camera's own resolution.
 * @param {HTMLVideoElement} video
 */
async function capture(video) {
  const { videoWidth, videoHeight } = video;
  const side = Math.min(videoWidth, videoHeight);
  if (side === 0) return null;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  canvas
    .getContext("2d")
    ?.drawImage(video, (videoWidth - side) / 2, (videoHeight - side) / 2, side, side, 0, 0, side, side);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  return blob ? new File([blob], `${t("camera.fileName")}.jpg`, { type: "image/jpeg" }) : null;
}

// @ts-check
/** The page's course: choose, look, send, answer. One state at a time, named by `data-state` of <main>. */

import { Problem, predict } from "./api.js";
import { check } from "./checks.js";
import { DermFindings } from "./findings.js";
import { DermHeatmap } from "./heatmap.js";
import { bytes, problemText } from "./messages.js";
import { DermPicker } from "./picture.js";
import { DermProblem } from "./problem.js";
import { DermVerdict } from "./result.js";
import { DermService } from "./service.js";

/**
 * @template {HTMLElement} T
 * @param {string} selector
 * @param {new () => T} type
 * @returns {T}
 */
function find(selector, type) {
  const element = document.querySelector(selector);
  if (!(element instanceof type)) throw new TypeError(`the page must hold ${selector}. Received: ${element}`);
  return element;
}

const main = find("#main", HTMLElement);
const outcome = find("#outcome", HTMLElement);
const verdict = find("derm-verdict", DermVerdict);
const problemView = find("derm-problem", DermProblem);
const findings = find("derm-findings", DermFindings);
const picker = find("derm-picker", DermPicker);
const view = find("derm-heatmap", DermHeatmap);
const service = find("derm-service", DermService);
const serviceNotice = find("#service-notice", HTMLElement);
const progress = find("#progress", HTMLElement);
const progressBar = find("#progress-bar", HTMLProgressElement);
const progressText = find("#progress-text", HTMLElement);
const actions = find("#actions", HTMLElement);
const assess = find("#assess", HTMLButtonElement);
const another = find("#another", HTMLButtonElement);
const cancel = find("#cancel", HTMLButtonElement);
const status = find("#status", HTMLElement);

/** @type {File | null} */
let file = null;
let address = "";
/** @type {AbortController | null} */
let sending = null;

/**
 * Shows one state; whatever belongs to another is hidden.
 *
 * @param {"empty" | "ready" | "sending" | "result" | "problem"} state
 * @param {{assessment?: import("./api.js").Assessment | null, problem?: Problem | null}} [content]
 */
function show(state, { assessment = null, problem = null } = {}) {
  main.dataset.state = state;
  verdict.assessment = assessment;
  findings.assessment = assessment;
  view.assessment = assessment;
  problemView.problem = problem;
  outcome.hidden = !assessment && !problem;
  picker.hidden = file !== null;
  view.hidden = file === null;
  progress.hidden = state !== "sending";
  actions.hidden = file === null || state === "sending";
  assess.hidden = state !== "ready";
  another.classList.toggle("primary", state === "result" || (problem !== null && !problemText(problem.code).retry));
}

/** @param {File | null} next */
function setFile(next) {
  sending?.abort();
  sending = null;
  if (address) URL.revokeObjectURL(address);
  file = next;
  address = next ? URL.createObjectURL(next) : "";
  if (next) {
    view.setAttribute("src", address);
    view.setAttribute("alt", `The picture you chose: ${next.name || "without a name"}`);
  } else {
    view.removeAttribute("src");
  }
}

/** @param {Problem} problem */
function fail(problem) {
  show("problem", { problem });
  problemView.focusHeading();
  if (problem.code === "network" || problem.status >= 500) service.refresh();
}

async function send() {
  if (!file || sending) return;
  const sent = file;
  const controller = new AbortController();
  sending = controller;
  show("sending");
  progressBar.value = 0;
  progressText.textContent = "Sending the picture";
  status.textContent = "Sending the picture.";
  cancel.focus();
  try {
    const assessment = await predict(sent, {
      signal: controller.signal,
      onProgress(share) {
        if (sending !== controller) return;
        if (share < 1) {
          progressBar.value = Math.round(share * 100);
        } else {
          progressBar.removeAttribute("value"); // how long the judging takes is not known
          progressText.textContent = "Judging the picture";
        }
      },
    });
    if (sending !== controller) return; // another picture has taken its place
    sending = null;
    status.textContent = "";
    show("result", { assessment });
    verdict.focusHeading();
    if (service.getAttribute("state") === "unavailable") service.refresh(); // it has just answered
  } catch (error) {
    // a file that is gone fails as a network does
    const cause = error instanceof Problem && error.code === "network" ? ((await check(sent)) ?? error) : error;
    if (sending !== controller) return;
    sending = null;
    status.textContent = "";
    if (cause instanceof Problem) {
      fail(cause);
    } else {
      show("ready");
      assess.focus();
      status.textContent = "Cancelled. The picture was not judged.";
    }
  }
}

picker.addEventListener("picture", (event) => {
  const next = /** @type {CustomEvent<{file: File}>} */ (event).detail.file;
  setFile(next);
  show("ready");
  status.textContent = `Picture chosen: ${next.name || "without a name"}, ${bytes(next.size)}.`;
  assess.focus();
});
picker.addEventListener("refused", (event) => {
  const { problem } = /** @type {CustomEvent<{problem: Problem}>} */ (event).detail;
  if (problem.code === "no_picture" && file) return; // text pasted by mistake takes no picture away
  setFile(null);
  status.textContent = "";
  fail(problem);
});
assess.addEventListener("click", send);
problemView.addEventListener("retry", send);
cancel.addEventListener("click", () => sending?.abort());
another.addEventListener("click", () => picker.open());
service.addEventListener("state", (event) => {
  const { state, text } = /** @type {CustomEvent<{state: string, text: string}>} */ (event).detail;
  serviceNotice.hidden = state !== "unavailable";
  serviceNotice.textContent = state === "unavailable" ? `${text} You can choose a picture; it can be judged once the service is back.` : "";
});

show("empty");

// @ts-check
/** Has the server compare two kept pictures of a spot when the reader requests it. */

import { Problem, comparePictures } from "../api.js";
import { DermProblem } from "../answer/problem-view.js";
import { button, el } from "../dom.js";
import { date, t } from "../i18n.js";
import { prepare } from "../intake/files.js";
import { findings } from "./findings.js";

/** @typedef {import("./store.js").Picture} Picture */
/** @typedef {import("../api.js").Comparison} Comparison */

/** @param {Picture} picture @returns {Promise<File>} the file to send; rejects with a Problem */
const sentOf = async ({ picture }) => (await prepare(new File([picture], "", { type: picture.type }))).file;

/** Methods: `offer`, `stop`. */
export class Measure {
  #onAnswer;
  /** @type {[Picture, Picture] | null} */
  #pair = null;
  /** Aborts the current request. @type {AbortController | null} */
  #asking = null;
  #said = el("p", { class: "visually-hidden", role: "status" });
  #content = el("div", { class: "measure-content" });
  element = el(
    "section",
    { class: "measure", "aria-labelledby": "measure-title" },
    el("h3", { id: "measure-title" }, t("compare.measure.title")),
    this.#content,
    this.#said,
  );

  /** @param {(comparison: Comparison) => void} onAnswer called with the answer for the last pair offered */
  constructor(onAnswer) {
    this.#onAnswer = onAnswer;
  }

  /**
   * Sets the two pictures to compare.
   * @param {[earlier: Picture, later: Picture]} pair
   */
  offer(pair) {
    this.stop();
    this.#pair = pair;
    this.#said.textContent = "";
    this.#ask();
  }

  /** Aborts the request. */
  stop() {
    this.#asking?.abort();
    this.#asking = null;
  }

  #ask() {
    const same = this.#pair?.[0] === this.#pair?.[1];
    const start = button(t("compare.measure.start"), () => this.#send(), "primary");
    this.#content.replaceChildren(
      el("p", { class: "soft" }, t("compare.measure.lead")),
      same ? el("p", {}, t("compare.measure.same")) : el("div", { class: "actions" }, start),
    );
    return start;
  }

  async #send() {
    const pair = this.#pair;
    if (!pair) return;
    const asking = (this.#asking = new AbortController());
    const cancel = button(t("common.cancel"), () => {
      this.stop();
      this.#ask().focus();
    });
    this.#content.replaceChildren(
      el("p", { class: "waiting" }, t("compare.measure.waiting")),
      el("progress", { "aria-label": t("compare.measure.title") }),
      el("div", { class: "actions" }, cancel),
    );
    cancel.focus();
    this.#said.textContent = t("compare.measure.waiting");
    try {
      const [earlier, later] = [await sentOf(pair[0]), await sentOf(pair[1])];
      const comparison = await comparePictures([earlier, later], { signal: asking.signal });
      if (this.#asking !== asking) return;
      const days = pair.map(({ takenAt }) => date(new Date(takenAt)));
      const { heading, content } = findings(comparison, days);
      this.#content.replaceChildren(content);
      this.#onAnswer(comparison);
      heading.focus();
      for (const part of [this.element, heading]) part.scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (this.#asking === asking) this.#fail(error);
    }
    this.#said.textContent = "";
  }

  /** @param {unknown} error */
  #fail(error) {
    const problem = new DermProblem();
    problem.addEventListener("retry", () => this.#send());
    problem.problem = error instanceof Problem ? error : new Problem("unexpected_answer");
    this.#content.replaceChildren(problem, el("p", { class: "soft" }, t("compare.measure.byEye")));
    problem.focusHeading();
  }
}

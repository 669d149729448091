// @ts-check
/** <derm-problem>: explains a failure and what to do, with a retry button once the server allows it. */

import { mayRetry } from "../api.js";
import { button, el } from "../dom.js";
import { currentLanguage, has, inLanguage, t } from "../i18n.js";
import { served } from "../served.js";

/** @typedef {import("../api.js").Problem} Problem */

/** Problems that a smaller copy solves. */
const TOO_BIG = ["too_large", "too_many_pixels"];

/** @param {Problem} problem */
const keyOf = ({ code }) => (has(`problem.${code}`) ? code : "unexpected_answer");

/** Property: `problem`; null clears it. Events: `retry`, `shrink`. */
export class DermProblem extends HTMLElement {
  /** @type {HTMLElement | null} */
  #heading = null;
  /** @type {number | undefined} */
  #timer;
  /** Whether smaller copies can be made. */
  canShrink = false;

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  /** @param {Problem | null} problem */
  set problem(problem) {
    clearInterval(this.#timer);
    this.hidden = problem === null;
    if (!problem) {
      this.replaceChildren();
      return;
    }
    const words = `problem.${keyOf(problem)}`;
    this.#heading = el("h2", { tabindex: "-1" }, t(`${words}.title`));
    this.replaceChildren(
      this.#heading,
      el("p", {}, t(`${words}.text`, problem.values)),
      ...(problem.detail
        ? [
            el(
              "p",
              { class: "problem-detail" },
              el("strong", {}, t("problem.detail")),
              " ",
              problem.own ? problem.detail : served(problem.detail),
            ),
          ]
        : []),
      ...(TOO_BIG.includes(problem.code) && this.canShrink
        ? [
            el(
              "div",
              { class: "actions" },
              button(t("problem.shrink"), () => this.dispatchEvent(new CustomEvent("shrink")), "primary"),
            ),
          ]
        : []),
      ...(mayRetry(problem) ? [this.#retryButton((problem.retryAt - Date.now()) / 1000)] : []),
      ...(problem.requestId
        ? [el("p", { class: "hint" }, t("problem.request", { id: problem.requestId }))]
        : []),
    );
  }

  /** Moves the focus to the heading, so that it is read first. */
  focusHeading() {
    this.#heading?.focus();
  }

  /** @param {number} seconds to wait before the server takes another request */
  #retryButton(seconds) {
    const said = el("p", { class: "visually-hidden", role: "status" });
    const again = button(
      t("common.retry"),
      () => again.getAttribute("aria-disabled") !== "true" && this.dispatchEvent(new CustomEvent("retry")),
      "primary",
    );
    const until = Date.now() + seconds * 1000;
    const speaks = currentLanguage();
    const write = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      // aria-disabled, not disabled: a disabled button would lose the keyboard focus
      again.setAttribute("aria-disabled", String(left > 0));
      again.textContent = left > 0 ? t("problem.retryIn", { count: left }) : t("common.retry");
      if (left > 0) return;
      clearInterval(this.#timer);
      if (seconds > 0) said.textContent = t("problem.retryNow");
    };
    const tick = () => inLanguage(speaks, write);
    tick();
    if (seconds > 0) this.#timer = setInterval(tick, 250);
    return el("div", { class: "actions" }, again, said);
  }
}

customElements.define("derm-problem", DermProblem);

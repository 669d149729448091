// @ts-check
/** <derm-problem>: a failure in words, with what to do, and a way to try again once the server allows it. */

import { el } from "./dom.js";
import { problemText } from "./messages.js";

/** @typedef {import("./api.js").Problem} Problem */

/** Property in: `problem`; null empties it. Event out: `retry`. */
export class DermProblem extends HTMLElement {
  /** @type {HTMLElement | null} */
  #heading = null;
  /** @type {number | undefined} */
  #timer;

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
    const { title, text, retry } = problemText(problem.code);
    this.#heading = el("h2", { tabindex: "-1" }, title);
    this.replaceChildren(
      this.#heading,
      el("p", {}, text),
      ...(problem.detail ? [el("p", { class: "problem-detail" }, el("strong", {}, "In detail: "), problem.detail)] : []),
      ...(retry ? [this.#retryButton(problem.retryAfter ?? 0)] : []),
      ...(problem.requestId ? [el("p", { class: "hint" }, `For questions to who runs this server: request ${problem.requestId}`)] : []),
    );
  }

  /** Moves focus to what went wrong, so that it is read first. */
  focusHeading() {
    this.#heading?.focus();
  }

  /** @param {number} seconds to wait before the server takes another request */
  #retryButton(seconds) {
    const label = el("span", {}, "Try again");
    const button = el("button", { type: "button", class: "button primary" }, label);
    const said = el("p", { class: "visually-hidden", role: "status" });
    const until = Date.now() + seconds * 1000;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      // aria-disabled, not disabled: a button that is taken out of reach would drop the keyboard's place
      button.setAttribute("aria-disabled", String(left > 0));
      label.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
      if (left > 0) return;
      clearInterval(this.#timer);
      if (seconds > 0) said.textContent = "You can try again now.";
    };
    tick();
    if (seconds > 0) this.#timer = setInterval(tick, 250);
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") this.dispatchEvent(new CustomEvent("retry"));
    });
    return el("div", { class: "actions" }, button, said);
  }
}

customElements.define("derm-problem", DermProblem);

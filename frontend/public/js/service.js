// @ts-check
/** <derm-service>: shows which model answers and whether the service is ready; polls until it is. */

import { health } from "./api.js";
import { el } from "./dom.js";
import { t } from "./i18n.js";

/** @typedef {import("./api.js").Health} Health */

const RETRY_MS = 5_000;
const READY_MS = 60_000;

/**
 * Method: `refresh`, once a language is loaded. Sets the attribute `state` (ok, degraded, unavailable).
 * Event: `state` with `{state, text}`.
 */
export class DermService extends HTMLElement {
  /** @type {number | undefined} */
  #timer;
  /** @type {AbortController | null} */
  #listening = null;

  connectedCallback() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    document.addEventListener("visibilitychange", () => !document.hidden && this.refresh(), { signal });
    for (const type of ["online", "offline"]) window.addEventListener(type, () => this.refresh(), { signal });
    document.addEventListener("language", () => this.refresh(), { signal });
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.#listening?.abort();
  }

  /**
   * Polls now and again later, sooner while the service is not ready. A page in the background does not poll.
   */
  async refresh() {
    clearTimeout(this.#timer);
    const state = await this.#ask();
    clearTimeout(this.#timer);
    if (this.isConnected && !document.hidden)
      this.#timer = setTimeout(() => this.refresh(), state === "unavailable" ? RETRY_MS : READY_MS);
  }

  async #ask() {
    if (!navigator.onLine) {
      this.#show("unavailable", t("service.offline"));
      return "unavailable";
    }
    try {
      const answer = await health();
      this.#show(answer.status, describe(answer));
      return answer.status;
    } catch {
      this.#show("unavailable", t("service.unreachable"));
      return "unavailable";
    }
  }

  /**
   * @param {string} state
   * @param {string} text
   */
  #show(state, text) {
    if (this.getAttribute("state") === state && this.textContent === text) return;
    this.setAttribute("state", state);
    this.replaceChildren(el("span", { class: "dot", "aria-hidden": "true" }), text);
    this.dispatchEvent(new CustomEvent("state", { detail: { state, text } }));
  }
}

/** @param {Health} health */
function describe({ status, models, version }) {
  const all = Object.entries(models);
  if (status === "unavailable")
    return t(all.some(([, model]) => model.state === "loading") ? "service.loading" : "service.noModel");
  const answers = (/** @type {{state: string}} */ model) =>
    model.state === "serving" || model.state === "standby";
  const serving = all.filter(([, model]) => answers(model));
  const names = serving.map(([name, model]) =>
    t("service.model", {
      name,
      version: String(model.version),
      runtime: [model.runtime, model.precision].filter(Boolean).join(" "),
    }),
  );
  const missing = all.filter(([, model]) => !answers(model)).map(([name]) => name);
  return [
    t("service.models", { count: names.length, names: names.join("; ") }),
    version ? t("service.version", { version }) : "",
    missing.length > 0 ? t("service.missing", { names: missing.join(", ") }) : "",
  ]
    .filter(Boolean)
    .join(" ");
}

customElements.define("derm-service", DermService);

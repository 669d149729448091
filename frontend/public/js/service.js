// @ts-check
/** <derm-service>: which model answers, and whether the service is ready; asks again until it is. */

import { health } from "./api.js";
import { el } from "./dom.js";

/** @typedef {import("./api.js").Health} Health */

const RETRY_MS = 5_000;
const READY_MS = 60_000;

/** Attribute out: `state` (ok, degraded, unavailable). Event out: `state` with `{state, text}`. */
export class DermService extends HTMLElement {
  /** @type {number | undefined} */
  #timer;
  /** @type {AbortController | null} */
  #listening = null;

  connectedCallback() {
    this.#listening = new AbortController();
    document.addEventListener("visibilitychange", () => !document.hidden && this.refresh(), { signal: this.#listening.signal });
    this.refresh();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.#listening?.abort();
  }

  /** Asks now, and again later: soon while the service is not ready. A page in the background does not ask. */
  async refresh() {
    clearTimeout(this.#timer);
    const state = await this.#ask();
    clearTimeout(this.#timer);
    if (this.isConnected && !document.hidden) this.#timer = setTimeout(() => this.refresh(), state === "unavailable" ? RETRY_MS : READY_MS);
  }

  async #ask() {
    try {
      const answer = await health();
      this.#show(answer.status, describe(answer));
      return answer.status;
    } catch {
      this.#show("unavailable", "The service cannot be reached at the moment.");
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
  const serving = Object.entries(models).filter(([, model]) => model.state === "serving");
  const names = serving.map(([name, model]) => `${name}, version ${model.version}${model.runtime ? ` (${[model.runtime, model.precision].filter(Boolean).join(", ")})` : ""}`);
  const service = version ? ` · service ${version}` : "";
  if (status === "unavailable") {
    const loading = Object.values(models).some((model) => model.state === "loading");
    return loading ? "The service is not ready: its model is being loaded." : "The service is not ready: it has no model that can judge pictures.";
  }
  const missing = Object.entries(models).filter(([, model]) => model.state !== "serving").map(([name]) => name);
  return `Model ${names.join("; ")}${service}${missing.length > 0 ? `. Not available: ${missing.join(", ")}` : ""}`;
}

customElements.define("derm-service", DermService);

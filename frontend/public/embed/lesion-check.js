// @ts-check
/**
 * <lesion-check endpoint="https://derm.example/api">: an element for other websites to choose a dermoscopic
 * picture, look at it, have it assessed and read the answer.
 *
 * Attributes: `endpoint`, address of the API (required); `lang`, one of LANGUAGES in i18n.js (by default
 * the browser's); `model`, a model other than the default; `heatmap`, `true` to request and show the heatmap.
 * Events, all bubbling and composed: `lesion-picture` {name, size}; `lesion-progress` {share};
 * `lesion-assessment`, the API's assessment; `lesion-problem` {code, status, detail, requestId, retryAfter}.
 * Methods: `choose(file)` shows a picture, `assess(file)` shows and sends it, `cancel()`. Property:
 * `assessment`.
 *
 * Everything is inside a shadow root, and scripts create the style sheets. The host page's Content Security
 * Policy only has to allow the server in script-src and connect-src, and blob: and data: in img-src.
 */

import { Problem, predict } from "../js/api.js";
import { button, el } from "../js/dom.js";
import {
  currentLanguage,
  directionOf,
  inLanguage,
  loadLanguage,
  preferredLanguage,
  t,
  tagOf,
} from "../js/i18n.js";
import { prepare } from "../js/intake/files.js";
import "../js/answer/findings.js";
import { DermHeatmap } from "../js/answer/heatmap.js";
import { DermProblem } from "../js/answer/problem-view.js";
import { DermVerdict } from "../js/answer/verdict.js";

const SHEETS = ["base", "picture", "result"];
const LAYOUT = `
  :host { display: block; color: var(--ink); font: 1rem/1.55 var(--font); }
  .whole { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1rem; padding: var(--gap); }
  .whole { border: 1px solid var(--line); border-radius: var(--radius); background: var(--page); }
`;

/** @type {Promise<CSSStyleSheet[]> | null} */
let sheets = null;

/** Fetched, not linked: the page's policy would have to allow a linked sheet. */
function styles() {
  sheets ??= Promise.all(
    SHEETS.map(async (name) => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(await (await fetch(new URL(`../css/${name}.css`, import.meta.url))).text());
      return sheet;
    }),
  ).then((loaded) => {
    const layout = new CSSStyleSheet();
    layout.replaceSync(LAYOUT);
    return [...loaded, layout];
  });
  return sheets;
}

/**
 * Tells a refused origin from an unreachable server: an opaque response means that a server is there.
 * @param {string} endpoint
 */
async function whyUnreachable(endpoint) {
  if (new URL(endpoint, location.href).origin === location.origin) return new Problem("network");
  try {
    await fetch(`${endpoint}/health/live`, {
      mode: "no-cors",
      cache: "no-store",
      signal: AbortSignal.timeout(5_000),
    });
  } catch {
    return new Problem("network");
  }
  return new Problem("origin_not_allowed", { values: { origin: location.origin } });
}

export class LesionCheck extends HTMLElement {
  static observedAttributes = ["lang"];

  /** The last answer. @type {import("../js/api.js").Assessment | null} */
  assessment = null;
  #root = this.attachShadow({ mode: "open" });
  #verdict = new DermVerdict();
  #view = new DermHeatmap();
  #findings = /** @type {import("../js/answer/findings.js").DermFindings} */ (
    el("derm-findings", { class: "findings" })
  );
  #problem = new DermProblem();
  #whole = el("div", { class: "whole" });
  #input = /** @type {HTMLInputElement} */ (
    el("input", { type: "file", accept: "image/jpeg,image/png,image/webp,image/bmp,image/tiff,image/gif" })
  );
  #status = el("p", { role: "status", class: "hint" });
  #go = button("", () => {}, "primary", { hidden: true, "aria-describedby": "privacy" });
  /** This element's language; others on the page may use another one. */
  #speaks = "en";
  /** @type {File | null} */
  #file = null;
  #url = "";
  /** @type {AbortController | null} */
  #sending = null;
  #started = false;

  constructor() {
    super();
    this.#verdict.asksModel = false; // the service is elsewhere
    this.#input.addEventListener("change", () => {
      const [file] = this.#input.files ?? [];
      this.#input.value = "";
      if (file) this.choose(file);
    });
    this.#problem.addEventListener("retry", () => this.#file && this.#send(this.#file));
    this.#go.addEventListener("click", () => this.#file && this.#send(this.#file));
  }

  async connectedCallback() {
    if (this.#started) return;
    this.#started = true;
    const [loaded] = await Promise.all([styles(), this.#learn()]);
    this.#root.adoptedStyleSheets = loaded;
    this.#root.replaceChildren(this.#whole);
    this.#say(() => this.#build());
  }

  disconnectedCallback() {
    this.cancel();
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = "";
  }

  async attributeChangedCallback() {
    if (!this.#started || preferredLanguage(this.getAttribute("lang")) === this.#speaks) return;
    await this.#learn();
    const { assessment } = this;
    this.#say(() => {
      this.#build();
      this.#show(assessment, null);
    });
  }

  /**
   * Shows a picture and says that it will be sent; sends nothing yet.
   *
   * @param {File} file
   * @returns {Promise<boolean>} whether it can be sent
   */
  async choose(file) {
    this.cancel();
    this.#tell("picture", { name: file.name, size: file.size });
    try {
      this.#file = (await prepare(file)).file;
    } catch (error) {
      if (error instanceof Problem) this.#fail(error);
      return false;
    }
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(this.#file);
    this.#say(() => this.#show(null, null));
    this.#status.replaceChildren();
    this.#go.focus();
    return true;
  }

  /** Sends a picture, for a page that has obtained consent itself. @param {File} file */
  async assess(file) {
    if ((await this.choose(file)) && this.#file) await this.#send(this.#file);
  }

  /** Cancels an upload. */
  cancel() {
    this.#sending?.abort();
    this.#sending = null;
  }

  /** Loads the requested language; keeps the previous one if that fails. */
  async #learn() {
    const wanted = preferredLanguage(this.getAttribute("lang"));
    for (const code of [wanted, this.#speaks]) {
      try {
        await loadLanguage(code, "answer");
        this.#speaks = code;
        return;
      } catch {
        // the next one
      }
    }
  }

  /** Runs `work` in this element's language. @template T @param {() => T} work @returns {T} */
  #say(work) {
    return inLanguage(this.#speaks, work);
  }

  #build() {
    this.#whole.lang = tagOf(currentLanguage());
    this.#whole.dir = directionOf(currentLanguage());
    this.#whole.replaceChildren(
      el("p", { class: "notice" }, el("strong", {}, t("disclaimer.research")), " ", t("disclaimer.device")),
      currentLanguage() === "en" ? "" : el("p", { class: "hint" }, t("translation.line")),
      el("p", {}, t("embed.lead")),
      el(
        "div",
        { class: "actions" },
        el("label", { class: "button" }, this.#input, el("span", {}, t("embed.choose"))),
      ),
      this.#verdict,
      this.#problem,
      this.#view,
      el("p", { class: "hint", id: "privacy" }, t("picture.privacy")),
      el("div", { class: "actions" }, this.#go),
      this.#status,
      this.#findings,
      el("p", { class: "whatever" }, t("safety.whatever")),
    );
    this.#show(null, null);
  }

  /** @param {import("../js/api.js").Assessment | null} assessment @param {Problem | null} problem */
  #show(assessment, problem) {
    this.assessment = assessment;
    this.#verdict.assessment = assessment;
    this.#findings.assessment = assessment;
    this.#problem.problem = problem;
    this.#problem.className = problem ? "card" : "";
    const shown = Boolean(this.#url) && !problem;
    this.#go.textContent = t("check.assess");
    this.#go.hidden = !shown || Boolean(assessment) || this.#sending !== null;
    this.#view.hidden = !shown;
    this.#view.show({
      src: shown ? this.#url : "",
      alt: shown ? t("check.chosen", { name: this.#file?.name || t("queue.unnamed") }) : "",
      assessment,
    });
  }

  /** @param {File} file */
  async #send(file) {
    const endpoint = (this.getAttribute("endpoint") ?? "").replace(/\/+$/, "");
    if (!endpoint) {
      this.#fail(new Problem("no_endpoint"));
      return;
    }
    const controller = new AbortController();
    this.#sending = controller;
    this.#say(() => {
      this.#show(null, null);
      const cancel = button(t("common.cancel"), () => this.cancel());
      this.#status.replaceChildren(t("check.sending"), " ", cancel);
      cancel.focus();
    });
    try {
      const assessment = await predict(file, {
        signal: controller.signal,
        endpoint,
        model: this.getAttribute("model") ?? "",
        explain: this.getAttribute("heatmap") === "true",
        onProgress: (share) => this.#tell("progress", { share }),
      });
      this.#status.replaceChildren();
      this.#say(() => this.#show(assessment, null));
      this.#verdict.focusHeading();
      this.#tell("assessment", assessment);
    } catch (error) {
      this.#status.replaceChildren();
      if (this.#sending === controller) this.#sending = null;
      if (!(error instanceof Problem)) {
        this.#say(() => {
          this.#show(null, null);
          this.#status.textContent = t("check.cancelled");
        });
      } else this.#fail(error.code === "network" ? await whyUnreachable(endpoint) : error);
    } finally {
      if (this.#sending === controller) this.#sending = null;
    }
  }

  /** @param {Problem} problem */
  #fail(problem) {
    this.#say(() => this.#show(null, problem));
    this.#problem.focusHeading();
    const { code, status, detail, requestId, retryAfter } = problem;
    this.#tell("problem", { code, status, detail, requestId, retryAfter });
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(`lesion-${type}`, { detail, bubbles: true, composed: true }));
  }
}

customElements.define("lesion-check", LesionCheck);

// @ts-check
/**
 * <lesion-check endpoint="https://derm.example/api">: choose a dermoscopic picture, have it judged, read the
 * answer; for pages of others.
 *
 * Attributes: `endpoint`, address of the API (required); `lang`, one of en, es, de, ar (by default the
 * browser's); `model`, another
 * model than the default; `heatmap`, `true` to ask for and show the heatmap.
 * Events, all bubbling and composed: `lesion-picture` {name, size}; `lesion-progress` {share};
 * `lesion-assessment`, the API's
 * assessment; `lesion-problem` {code, status, detail, requestId, retryAfter}.
 * Methods: `assess(file)`, `cancel()`. Property: `assessment`.
 *
 * Everything is inside a shadow root, with sheets made by script, so that the page around needs no exception
 * in its security policy
 * but the server in script-src, connect-src, and blob: and data: in img-src.
 */

import { Problem, predict } from "../js/api.js";
import { button, el } from "../js/dom.js";
import {
  LANGUAGES,
  currentLanguage,
  directionOf,
  isLoaded,
  preferredLanguage,
  t,
  useLanguage,
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
/** @type {Promise<void> | null} */
let words = null;

/** Fetched, not linked: a linked sheet would need the page's leave. */
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
 * Tells a refused origin from a server that is away: an opaque answer says that there is one.
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
  /** @type {File | null} */
  #file = null;
  #url = "";
  /** @type {AbortController | null} */
  #sending = null;
  #started = false;

  constructor() {
    super();
    this.#input.addEventListener("change", () => {
      const [file] = this.#input.files ?? [];
      this.#input.value = "";
      if (file) this.assess(file);
    });
    this.#problem.addEventListener("retry", () => this.#file && this.#send(this.#file));
  }

  async connectedCallback() {
    if (this.#started) return;
    this.#started = true;
    words ??= isLoaded() ? Promise.resolve() : useLanguage(this.#language());
    const [loaded] = await Promise.all([styles(), words]);
    this.#root.adoptedStyleSheets = loaded;
    this.#root.replaceChildren(this.#whole);
    this.#build();
  }

  disconnectedCallback() {
    this.cancel();
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = "";
  }

  async attributeChangedCallback() {
    if (!this.#started || !(this.#language() in LANGUAGES) || this.#language() === currentLanguage()) return;
    words = useLanguage(this.#language());
    await words;
    this.#build();
    this.#show(this.assessment, null);
  }

  /** Judges a picture, as choosing it does. @param {File} file */
  async assess(file) {
    this.cancel();
    this.#tell("picture", { name: file.name, size: file.size });
    try {
      this.#file = (await prepare(file)).file;
    } catch (error) {
      if (error instanceof Problem) this.#fail(error);
      return;
    }
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(this.#file);
    await this.#send(this.#file);
  }

  /** Ends an upload. */
  cancel() {
    this.#sending?.abort();
    this.#sending = null;
  }

  #language() {
    return preferredLanguage(this.getAttribute("lang"));
  }

  #build() {
    this.#whole.lang = currentLanguage();
    this.#whole.dir = directionOf(currentLanguage());
    this.#whole.replaceChildren(
      el("p", { class: "notice" }, el("strong", {}, t("disclaimer.research")), " ", t("disclaimer.device")),
      currentLanguage() === "en" ? "" : el("p", { class: "hint" }, t("translation.line")),
      el("p", {}, t("embed.lead")),
      el("p", { class: "hint" }, t("picture.privacy")),
      el(
        "div",
        { class: "actions" },
        el("label", { class: "button primary" }, this.#input, el("span", {}, t("embed.choose"))),
      ),
      this.#status,
      this.#verdict,
      this.#problem,
      this.#view,
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
    this.#view.hidden = !assessment;
    this.#view.show({
      src: assessment ? this.#url : "",
      alt: assessment ? t("check.chosen", { name: this.#file?.name || t("queue.unnamed") }) : "",
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
    this.#show(null, null);
    this.#status.replaceChildren(
      t("check.sending"),
      " ",
      button(t("common.cancel"), () => this.cancel()),
    );
    try {
      const assessment = await predict(file, {
        signal: controller.signal,
        endpoint,
        model: this.getAttribute("model") ?? "",
        explain: this.getAttribute("heatmap") === "true",
        onProgress: (share) => this.#tell("progress", { share }),
      });
      this.#status.replaceChildren();
      this.#show(assessment, null);
      this.#verdict.focusHeading();
      this.#tell("assessment", assessment);
    } catch (error) {
      this.#status.replaceChildren();
      if (!(error instanceof Problem)) this.#status.textContent = t("check.cancelled");
      else this.#fail(error.code === "network" ? await whyUnreachable(endpoint) : error);
    } finally {
      if (this.#sending === controller) this.#sending = null;
    }
  }

  /** @param {Problem} problem */
  #fail(problem) {
    this.#show(null, problem);
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

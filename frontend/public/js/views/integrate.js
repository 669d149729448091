// @ts-check
/**
 * The view for developers who call the service: example calls to this server, and the embeddable element.
 */

import { models } from "../api.js";
import { button, el, intro } from "../dom.js";
import { LANGUAGES, t, useWords } from "../i18n.js";
import { table } from "../tables.js";

const api = () => new URL("./api", document.baseURI).href;
const element = () => new URL("./embed/lesion-check.js", document.baseURI).href;

/** @type {{name: string, language: string, code: () => string}[]} */
const CALLS = [
  {
    name: "curl",
    language: "sh",
    code: () => `curl --fail-with-body -F file=@lesion.jpg '${api()}/predict?explain=true'
curl '${api()}/health'`,
  },
  {
    name: "Python",
    language: "python",
    code: () => `import httpx

with open("lesion.jpg", "rb") as picture:
    answer = httpx.post("${api()}/predict", files={"file": picture}, timeout=30)
if answer.is_error:
    problem = answer.json()  # RFC 9457: code, detail, request_id
    raise SystemExit(f"{problem['code']}: {problem['detail']}")
assessment = answer.json()
print(assessment["decision"])       # low_suspicion, suspicious, uncertain or rejected
print(assessment["malignancy"])     # None when the picture was not judged`,
  },
  {
    name: "JavaScript",
    language: "js",
    code: () => `const form = new FormData();
form.append("file", input.files[0]);
const answer = await fetch("${api()}/predict?explain=true", { method: "POST", body: form });
const body = await answer.json();
if (!answer.ok) throw new Error(\`\${body.code}: \${body.detail}\`);
console.log(body.decision, body.malignancy); // malignancy is null when rejected`,
  },
];

const EMBED = () => `<script type="module" src="${element()}"></script>
<lesion-check endpoint="${api()}"></lesion-check>`;

const ATTRIBUTES = ["endpoint", "lang", "model", "heatmap"];
const EVENTS = ["lesion-picture", "lesion-progress", "lesion-assessment", "lesion-problem"];

/** @param {string} name @param {string} text */
function code(name, text) {
  const said = el("span", { role: "status", class: "visually-hidden" });
  const copy = button(
    t("integrate.copy"),
    async () => {
      await navigator.clipboard.writeText(text);
      said.textContent = t("integrate.copied");
    },
    "",
    { "aria-label": t("integrate.copyNamed", { name }) },
  );
  return el(
    "div",
    { class: "code" },
    el(
      "pre",
      { dir: "ltr", lang: "en", tabindex: 0, role: "region", "aria-label": name },
      el("code", {}, text),
    ),
    // the clipboard is writable only in a secure context
    window.isSecureContext && el("div", { class: "actions" }, copy, said),
  );
}

/** The meaning of each name. @param {string} caption @param {string} kind @param {string[]} names */
const meanings = (caption, kind, names) =>
  table(
    caption,
    [],
    names.map((name) => [
      el("code", { dir: "ltr" }, name),
      t(`integrate.${kind}.${name}`, { codes: Object.keys(LANGUAGES).join(", ") }),
    ]),
  );

/** @param {HTMLElement} place */
export async function show(place) {
  await useWords("more");
  const log = el("pre", {
    class: "events",
    dir: "ltr",
    tabindex: 0,
    role: "log",
    "aria-label": t("integrate.log"),
  });
  const demo = el("lesion-check", { endpoint: api(), heatmap: "true", lang: document.documentElement.lang });
  for (const type of EVENTS) {
    demo.addEventListener(type, (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      const short = (/** @type {string} */ key, /** @type {unknown} */ value) =>
        key === "heatmap" && value ? "data:image/png;…" : value;
      log.append(`${type} ${JSON.stringify(detail, short)}\n`);
      log.scrollTop = log.scrollHeight;
    });
  }
  const serving = el("p", { hidden: true });
  models().then(
    ({ models: list, default: first }) => {
      serving.textContent = t("integrate.models", {
        names: list.map((/** @type {{name: string}} */ { name }) => name).join(", "),
        first,
      });
      serving.hidden = list.length < 2;
    },
    () => serving.remove(),
  );
  place.append(
    intro(t("integrate.title"), t("integrate.lead")),
    el(
      "section",
      { class: "card" },
      el("h2", {}, t("integrate.calls")),
      el("p", {}, t("integrate.callsText")),
      ...CALLS.flatMap((call) => [el("h3", {}, call.name), code(call.name, call.code())]),
      el("p", {}, t("integrate.keys")),
      serving,
      el(
        "p",
        {},
        el("a", { href: "./api/docs" }, t("integrate.docs")),
        " · ",
        el("a", { href: "./api/openapi.json" }, t("integrate.openapi")),
      ),
    ),
    el(
      "section",
      { class: "card" },
      el("h2", {}, t("integrate.element")),
      el("p", {}, t("integrate.elementText")),
      code("HTML", EMBED()),
      meanings(t("integrate.attributes"), "attribute", ATTRIBUTES),
      meanings(t("integrate.events"), "event", EVENTS),
      el("p", {}, t("integrate.cors")),
    ),
    el(
      "section",
      { class: "card" },
      el("h2", {}, t("integrate.demo")),
      demo,
      el("h3", {}, t("integrate.log")),
      log,
    ),
  );
  await import("../../embed/lesion-check.js");
}

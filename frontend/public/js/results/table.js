// @ts-check
/**
 * All answers of a queue as a sortable table, with export to files and printing.
 */

import { paperReport } from "../answer/report.js";
import { warningsOf } from "../answer/findings.js";
import { classText, warningWords } from "../answer/words.js";
import { assessmentOf, correctedOf, urlOf } from "../check/state.js";
import { button, download, el, openDialog } from "../dom.js";
import { outOfHundred, percent, t } from "../i18n.js";
import { csvOf, fhirOf, jsonOf } from "./files.js";

/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("../api.js").Assessment} Assessment */
/** @typedef {{item: Item, assessment: Assessment | null, name: string}} Line */

/** The most urgent first. @type {(string | undefined)[]} */
const ORDER = ["suspicious", "uncertain", "rejected", undefined, "low_suspicion"];

/** @param {Line} line */
const estimateOf = ({ assessment }) =>
  assessment?.decision === "rejected" ? -1 : (assessment?.malignancy?.probability ?? -1);

/** The most probable class. @param {Line} line */
function firstOf({ assessment }) {
  if (!assessment || assessment.decision === "rejected" || assessment.classes.length === 0) return "";
  return classText(assessment.classes[0]);
}

/** @type {{name: string, compare: (one: Line, other: Line) => number}[]} */
const COLUMNS = [
  { name: "name", compare: (one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }) },
  {
    name: "decision",
    compare: (one, other) =>
      ORDER.indexOf(one.assessment?.decision) - ORDER.indexOf(other.assessment?.decision) ||
      estimateOf(other) - estimateOf(one),
  },
  { name: "estimate", compare: (one, other) => estimateOf(other) - estimateOf(one) },
  { name: "first", compare: (one, other) => firstOf(one).localeCompare(firstOf(other)) },
  {
    name: "warnings",
    compare: (one, other) =>
      (other.assessment?.quality.warnings.length ?? 0) - (one.assessment?.quality.warnings.length ?? 0),
  },
];

/** @type {[format: string, file: string, type: string, write: (lines: Line[]) => string][]} */
const FILES = [
  ["CSV", "results.csv", "text/csv", csvOf],
  ["JSON", "results.json", "application/json", jsonOf],
  ["FHIR", "results.fhir.json", "application/fhir+json", fhirOf],
];

/** @param {Line} line @param {() => void} choose */
function rowOf(line, choose) {
  const { item, assessment, name } = line;
  const thumb = item.thumb ? el("img", { src: item.thumb, alt: "", width: 40, height: 40 }) : null;
  const chosen = button(name, choose, "plain", { dir: "auto" });
  const warnings = assessment ? warningsOf(assessment).map(warningWords) : [];
  const estimate = estimateOf(line);
  return el(
    "tr",
    { "data-decision": assessment?.decision ?? "" },
    el("th", { scope: "row" }, el("span", { class: "results-name" }, thumb, chosen)),
    el("td", {}, t(assessment ? `verdict.${assessment.decision}.short` : "queue.state.problem")),
    el("td", { class: "figure" }, estimate < 0 ? "–" : percent(estimate, 1)),
    el("td", {}, firstOf(line) || "–"),
    el("td", {}, ...warnings.map((words) => el("p", {}, words))),
  );
}

/** Prevalence and threshold, the same for all answers of one model. @param {Line[]} lines */
function assumed(lines) {
  const malignancy = lines.map(({ assessment }) => assessment?.malignancy).find(Boolean);
  if (!malignancy) return null;
  const values = {
    share: outOfHundred(malignancy.prevalence),
    threshold: percent(malignancy.threshold, 1),
  };
  return el("p", { class: "soft" }, t("results.assumed", values));
}

/** Prints each answer on its own sheet. @param {Line[]} lines */
function printAll(lines) {
  const sheets = lines.flatMap(({ item, assessment }) =>
    assessment && item.answer
      ? [
          paperReport({
            assessment,
            url: urlOf(item),
            name: item.name,
            at: item.answer.at,
            corrected: correctedOf(item),
          }),
        ]
      : [],
  );
  const papers = el("div", { class: "papers" }, ...sheets);
  document.body.append(papers);
  window.addEventListener("afterprint", () => papers.remove(), { once: true });
  // once the pictures are loaded
  const images = /** @type {HTMLImageElement[]} */ ([...papers.querySelectorAll("img")]);
  Promise.allSettled(images.map((image) => image.decode())).then(() => window.print());
}

/** @param {Item[]} items @param {(item: Item) => void} choose shows one of them */
export function showTable(items, choose) {
  /** @type {Line[]} */
  const lines = items
    .filter((item) => assessmentOf(item) || item.problem)
    .map((item) => ({ item, assessment: assessmentOf(item), name: item.name || t("queue.unnamed") }));
  const body = el("tbody");
  /** @type {HTMLElement[]} */
  const heads = COLUMNS.map(({ name, compare }) => {
    const sort = button(t(`results.${name}`), () => order(head, compare), "plain");
    const head = el("th", { scope: "col" }, sort);
    return head;
  });
  /** @param {HTMLElement} head @param {(one: Line, other: Line) => number} compare */
  function order(head, compare) {
    const again = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", again ? "descending" : "ascending");
    const sorted = [...lines].sort((one, other) => (again ? -1 : 1) * compare(one, other));
    body.replaceChildren(
      ...sorted.map((line) =>
        rowOf(line, () => {
          dialog.close();
          choose(line.item);
        }),
      ),
    );
  }
  const dialog = openDialog(
    "results",
    el("h2", {}, t("results.title")),
    assumed(lines),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": t("results.title") },
      el("table", {}, el("caption", {}, t("results.sort")), el("thead", {}, el("tr", {}, ...heads)), body),
    ),
    el(
      "div",
      { class: "actions" },
      ...FILES.map(([format, file, type, write]) =>
        button(t("results.save", { format }), () => download(new Blob([write(lines)], { type }), file)),
      ),
      button(t("results.print"), () => printAll(lines)),
      button(t("common.close"), () => dialog.close(), "primary"),
    ),
    el("p", { class: "hint" }, t("disclaimer.all")),
  );
  order(heads[1], COLUMNS[1].compare);
}

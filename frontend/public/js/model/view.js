// @ts-check
/** The view of the model: its purpose, its metrics with confidence intervals, its curves, its card. */

import { model as fetchModel, models, report as fetchReport, Problem } from "../api.js";
import { button, el, intro } from "../dom.js";
import { figure, has, number, outOfHundred, percent, t, useWords } from "../i18n.js";
import { onBiopsied } from "../answer/frequency.js";
import { classText } from "../answer/words.js";
import { served } from "../served.js";
import { table } from "../tables.js";
import { curvesOf } from "./curves.js";
import { render } from "./markdown.js";

const DECISIONS = ["suspicious", "uncertain", "low_suspicion", "rejected"];

/** @param {HTMLElement} place */
export async function show(place) {
  await useWords("more");
  place.replaceChildren(intro(t("model.title"), t("model.lead")));
  const content = el("div", { class: "stack" }, el("p", { role: "status" }, t("common.loading")));
  place.append(content);
  try {
    const list = await models();
    const first = list.models.find((/** @type {any} */ { name }) => name === list.default) ?? list.models[0];
    if (!first) throw new Problem("no_model");
    const names = list.models.map((/** @type {any} */ { name }) => name);
    const body = el("div", { class: "stack" });
    content.replaceChildren(
      ...(names.length > 1
        ? [
            chooser(t("model.which"), names, first.name, (name) =>
              fill(body, name).catch((error) => body.replaceChildren(failure(error, () => show(place)))),
            ),
          ]
        : []),
      body,
    );
    await fill(body, first.name);
  } catch (error) {
    content.replaceChildren(failure(error, () => show(place)));
  }
}

/** @param {unknown} error @param {() => Promise<void>} again */
function failure(error, again) {
  const code = error instanceof Problem ? error.code : "unexpected_answer";
  const known = has(`problem.${code}`) ? code : "unexpected_answer";
  return el(
    "section",
    { class: "card" },
    el("h2", {}, t(`problem.${known}.title`)),
    el("p", {}, t(`problem.${known}.text`)),
    error instanceof Problem && error.detail && el("p", {}, served(error.detail)),
    el(
      "div",
      { class: "actions" },
      button(t("common.retry"), () => again()),
    ),
  );
}

/**
 * @param {string} label
 * @param {string[]} names
 * @param {string} chosen
 * @param {(name: string) => void} choose
 * @param {(name: string) => string} [word]
 */
function chooser(label, names, chosen, choose, word = (name) => name) {
  const select = /** @type {HTMLSelectElement} */ (
    el(
      "select",
      {},
      ...names.map((name) => el("option", { value: name, selected: name === chosen }, word(name))),
    )
  );
  select.addEventListener("change", () => choose(select.value));
  return el("label", { class: "field" }, label, select);
}

/** @param {HTMLElement} body @param {string} name */
async function fill(body, name) {
  const [model, report] = await Promise.all([fetchModel(name), fetchReport(name).catch(() => null)]);
  const segments = Object.keys(model.metrics).filter(
    (segment) => segment === "test" || segment.startsWith("test/source="),
  );
  const first = segments.includes("test") ? "test" : segments[0];
  const figures = el("div", { class: "stack" });
  const showSegment = (/** @type {string} */ segment) =>
    figures.replaceChildren(
      metricsTable(model.metrics[segment] ?? {}),
      ...decisions(report?.segments?.[segment]),
      el(
        "div",
        { class: "columns" },
        ...(report?.segments?.[segment] ? curvesOf(report.segments[segment], model.metrics[segment]) : []),
      ),
    );
  const biopsied = onBiopsied(model.metrics);
  body.replaceChildren(
    ...(biopsied
      ? [
          el(
            "section",
            { class: "card truth" },
            el("h2", {}, t("model.truth")),
            el("p", { class: "meaning" }, biopsied),
            el("p", {}, t("model.cameras")),
            el("p", { class: "soft" }, t("model.doctors")),
          ),
        ]
      : []),
    el(
      "section",
      { class: "card" },
      el("h2", {}, t("figure.modelVersion", { name: model.name, version: model.version })),
      el("p", {}, served(model.intended_use)),
      facts(model),
    ),
    el(
      "section",
      { class: "card warnings" },
      el("h2", {}, t("model.limits")),
      el(
        "ul",
        { class: "plain-list" },
        ...model.limitations.map((/** @type {string} */ line) => el("li", {}, served(line))),
      ),
    ),
    el(
      "section",
      { class: "stack", "aria-label": t("model.measured") },
      el("h2", {}, t("model.measured")),
      el("p", { class: "soft" }, t("model.measuredText")),
      segments.length > 1 && chooser(t("model.segment"), segments, first, showSegment, segmentWord),
      figures,
    ),
    ...(report ? [] : [el("p", { class: "notice" }, t("model.noReport"))]),
    el(
      "details",
      { class: "card" },
      el("summary", {}, t("model.card")),
      el("div", { class: "card-text", lang: "en", dir: "ltr" }, ...render(model.card, 3)),
    ),
  );
  if (first) showSegment(first);
}

/** @param {string} segment such as test or test/source=ham10000 */
function segmentWord(segment) {
  const source = /^test\/source=(.+)$/.exec(segment)?.[1];
  if (source) return t("model.segmentSource", { source });
  return segment === "test" ? t("model.segmentAll") : segment;
}

/** @param {any} model */
function facts({ architecture, labels, decision, calibration, input, novelty }) {
  const [low, high] = decision.uncertain;
  const rows = [
    [t("model.fact.architecture"), architecture],
    [t("model.fact.input"), t("model.fact.inputValue", { size: input.size })],
    [
      t("model.fact.classes"),
      labels
        .map((/** @type {any} */ label) =>
          label.malignant ? t("model.fact.malignantClass", { name: classText(label) }) : classText(label),
        )
        .join(" · "),
    ],
    [
      t("report.threshold"),
      t("model.fact.thresholdValue", {
        threshold: percent(decision.threshold, 1),
        sensitivity: percent(decision.target_sensitivity),
      }),
    ],
    [t("report.band"), t("report.range", { low: percent(low, 1), high: percent(high, 1) })],
    [t("model.fact.prevalence"), outOfHundred(calibration.prevalence)],
    [
      t("model.fact.ece"),
      t("model.fact.eceValue", {
        before: figure(calibration.ece_before),
        after: figure(calibration.ece_after),
      }),
    ],
    [
      t("model.fact.novelty"),
      t("model.fact.noveltyValue", { share: percent(novelty.false_rejection_rate, 1) }),
    ],
  ];
  return el(
    "dl",
    { class: "facts" },
    ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}

/**
 * The metrics that have a name on this page, in the manifest's order; the card has the others.
 *
 * @param {Record<string, {value: number | null, ci95: [number, number] | null}>} metrics
 */
function metricsTable(metrics) {
  const names = Object.keys(metrics).filter((name) => has(`metric.${name}`) && metrics[name].value !== null);
  return table(
    t("model.metrics"),
    [t("model.metric"), t("model.value"), t("model.interval")],
    names.map((name) => {
      const { value, ci95 } = metrics[name];
      return [
        t(`metric.${name}`),
        name.startsWith("n") ? number(Number(value), 6) : figure(Number(value)),
        ci95 ? t("model.range", { low: figure(ci95[0]), high: figure(ci95[1]) }) : "–",
      ];
    }),
    "card",
  );
}

/** The decisions for malignant and benign lesions. @param {any} segment */
function decisions(segment) {
  const given = segment?.decisions;
  if (!given) return [];
  return [
    table(
      t("model.decisions"),
      [null, ...DECISIONS.map((decision) => t(`verdict.${decision}.short`))],
      ["malignant", "benign"].map((kind) => [
        t(`model.${kind}`),
        ...DECISIONS.map((decision) => number(given[kind]?.[decision] ?? 0, 6)),
      ]),
      "card",
    ),
  ];
}

// @ts-check
/**
 * What an estimate means for a reader: how many of 100 spots like this one would be skin cancer; how soon to
 * have it examined; how often the model gave this answer to a cancer in its test.
 */

import { model } from "../api.js";
import { el } from "../dom.js";
import { currentLanguage, inLanguage, outOfHundred, t } from "../i18n.js";

/** @typedef {import("../api.js").Assessment} Assessment */

/** From this probability on, the reader is told to ask for the earliest appointment. */
const HIGH = 0.5;
const DOTS = 100;

/** @param {number} probability 0..1 @returns {number} of 100, at most 99: nothing is certain */
const countOf = (probability) => Math.min(DOTS - 1, Math.round(probability * DOTS));

/**
 * Values for verdict.frequency in the current language.
 * @param {{probability: number, prevalence: number}} malignancy
 */
export function frequencyValues({ probability, prevalence }) {
  const count = countOf(probability);
  return { count: count < 1 ? t("verdict.fewerThanOne") : count, share: outOfHundred(prevalence) };
}

/** @param {number} probability 0..1 @returns {HTMLElement} 100 dots; a text beside them says the same */
export function dots(probability) {
  const count = countOf(probability);
  const drawn = Array.from({ length: DOTS }, (_, at) => el("i", { class: at < count ? "full" : "" }));
  return el("div", { class: "dots", "aria-hidden": "true" }, ...drawn);
}

/** @param {NonNullable<Assessment["malignancy"]>} malignancy */
export const frequencySentence = (malignancy) =>
  el("p", {}, t("verdict.frequency", frequencyValues(malignancy)));

/** @param {NonNullable<Assessment["malignancy"]>} malignancy */
export const frequency = (malignancy) =>
  el("div", { class: "frequency" }, dots(malignancy.probability), frequencySentence(malignancy));

/**
 * Values for brief.sure in the current language.
 * @param {{probability: number, prevalence: number}} malignancy
 */
export function briefValues({ probability, prevalence }) {
  const count = countOf(probability);
  const about = count < 1 ? t("verdict.fewerThanOne") : t("brief.about", { count });
  return { about, share: outOfHundred(prevalence) };
}

/** @param {Assessment} assessment @returns {"now" | "soon" | "book" | "watch"} never advice to delay */
export function stepOf({ decision, malignancy }) {
  if (decision === "suspicious") return (malignancy?.probability ?? 1) >= HIGH ? "now" : "soon";
  return decision === "uncertain" ? "book" : "watch";
}

/** @param {Assessment} assessment */
export function urgency(assessment) {
  if (assessment.decision === "rejected") return [];
  const step = stepOf(assessment);
  const source = step === "soon" || step === "now";
  return [
    el("h3", {}, t("urgency.title")),
    el("p", { class: "urgency", "data-step": step }, t(`urgency.${step}`)),
    source && el("p", { class: "hint" }, t("urgency.source")),
  ];
}

/** The request for each model, once per visit. @type {Map<string, Promise<Record<string, any>>>} */
const asked = new Map();

/**
 * How the model performs on biopsied lesions, according to its manifest.
 *
 * @param {Record<string, any>} metrics of the model
 * @returns {string} empty if it was not measured
 */
export function onBiopsied(metrics) {
  const { sensitivity, specificity, n } = metrics?.["test/biopsied"] ?? {};
  if (![sensitivity?.value, specificity?.value, n?.value].every(Number.isFinite)) return "";
  return t("truth.biopsied", {
    count: n.value,
    found: Math.round(100 * sensitivity.value),
    wrong: Math.round(100 * (1 - specificity.value)),
  });
}

/** How many cancers in the test got `low_suspicion`. @param {Record<string, any>} metrics of the model */
function missedOf(metrics) {
  const share = metrics?.test?.malignant_low_suspicion?.value;
  const total = metrics?.test?.n_malignant?.value;
  if (!Number.isFinite(share) || !Number.isFinite(total)) return "";
  return t("verdict.missed", { missed: Math.round(share * total), total: Math.round(total) });
}

/**
 * A line filled in from the model's manifest; hidden until that is loaded.
 *
 * @param {Assessment["model"]} answered
 * @param {string} kind
 * @param {(metrics: Record<string, any>) => string} words
 */
function lineOf({ name, version }, kind, words) {
  const line = el("p", { class: kind, hidden: true });
  const speaks = currentLanguage();
  const detail = asked.get(name) ?? model(name);
  asked.set(name, detail);
  detail.then(
    ({ version: serving, metrics }) => {
      if (String(serving) !== String(version)) return;
      line.textContent = inLanguage(speaks, () => words(metrics));
      line.hidden = !line.textContent;
    },
    () => asked.delete(name),
  );
  return line;
}

/** @param {Assessment} assessment */
export const missed = ({ decision, model: answered }) =>
  decision === "low_suspicion" ? lineOf(answered, "missed", missedOf) : null;

/** @param {Assessment} assessment */
export const truth = ({ decision, model: answered }) =>
  decision === "rejected" ? null : lineOf(answered, "hint truth", onBiopsied);

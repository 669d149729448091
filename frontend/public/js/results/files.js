// @ts-check
/** All answers as files for other programs: CSV (RFC 4180), JSON, and FHIR R4 (a Bundle of Observations). */

import { correctedOf } from "../check/state.js";
import { csv } from "../csv.js";
import { t } from "../i18n.js";
import { rangeOf } from "../lesion/card.js";
import { IN_MILLIMETRES, MEASURES, measured } from "../lesion/correction.js";

/** @typedef {import("./table.js").Line} Line */
/** @typedef {import("../api.js").Assessment} Assessment */

const MEASURED = [...MEASURES, ...IN_MILLIMETRES];
const BOM = "\ufeff"; // else spreadsheets assume another encoding for the names
const PERCENT = { system: "http://unitsofmeasure.org", code: "1" };

/** Whether there is an estimate. @param {Assessment | null} assessment */
const malignancyOf = (assessment) =>
  assessment && assessment.decision !== "rejected" ? assessment.malignancy : null;

/** CSV with the API's own column names, in every language. @param {Line[]} lines */
export function csvOf(lines) {
  const classes = [
    ...new Set(lines.flatMap(({ assessment }) => assessment?.classes.map(({ id }) => id) ?? [])),
  ];
  const head = [
    ...["name", "decision", "probability", "threshold", "uncertain_low", "uncertain_high", "prevalence"],
    ...["most_likely", "warnings", "problem", "model", "version", "request_id", "assessed_at"],
    ...classes.map((id) => `class_${id}`),
    ...MEASURED,
    ...MEASURED.map((measure) => `corrected_${measure}`),
    "disclaimer",
  ];
  const rows = lines.map((line) => {
    const { item, assessment, name } = line;
    const corrected = correctedLesion(line).corrected_lesion;
    const lesion = assessment?.lesion;
    const malignancy = malignancyOf(assessment);
    const shares = new Map(
      malignancy ? assessment?.classes.map(({ id, probability }) => [id, probability]) : [],
    );
    return [
      name,
      assessment?.decision ?? "",
      malignancy?.probability ?? "",
      malignancy?.threshold ?? "",
      malignancy?.uncertain[0] ?? "",
      malignancy?.uncertain[1] ?? "",
      malignancy?.prevalence ?? "",
      assessment?.most_likely?.id ?? "",
      assessment?.quality.warnings.map(({ code }) => code).join(" ") ?? "",
      item.problem?.code ?? "",
      assessment?.model.name ?? "",
      assessment?.model.version ?? "",
      assessment?.request_id ?? "",
      item.answer?.at.toISOString() ?? "",
      ...classes.map((id) => shares.get(id) ?? ""),
      ...MEASURED.map((measure) => (lesion && rangeOf(lesion, measure)?.value) ?? ""),
      ...MEASURED.map((measure) => corrected?.[measure] ?? ""),
      t("disclaimer.all"),
    ];
  });
  return BOM + csv(head, rows);
}

/** An outline that was corrected by hand, with its measurements. @param {Line} line */
function correctedLesion({ item, assessment }) {
  const outline = correctedOf(item);
  if (!assessment?.lesion || !outline) return {};
  return { corrected_lesion: { by: "hand", outline, ...measured(assessment, outline) } };
}

/**
 * The API's answers unchanged but without heatmaps, plus outlines that were corrected by hand.
 * @param {Line[]} lines
 */
export function jsonOf(lines) {
  const results = lines.map(({ item, assessment, name }) => ({
    name,
    assessed_at: item.answer?.at.toISOString() ?? null,
    sha256: item.digest,
    assessment: assessment && { ...assessment, heatmap: null },
    ...correctedLesion({ item, assessment, name }),
    problem: item.problem && { code: item.problem.code, detail: item.problem.detail },
  }));
  return JSON.stringify({ disclaimer: t("disclaimer.all"), results }, null, 2);
}

/** @param {Line} line */
function observation({ item, assessment, name }) {
  const malignancy = malignancyOf(assessment);
  const share = (/** @type {string} */ text, /** @type {number} */ value) => ({
    code: { text },
    valueQuantity: { value, ...PERCENT },
  });
  const components = malignancy
    ? [
        share("threshold", malignancy.threshold),
        share("assumed prevalence", malignancy.prevalence),
        ...(assessment?.classes ?? []).map((found) => share(found.name, found.probability)),
      ]
    : [];
  return {
    resourceType: "Observation",
    status: "preliminary",
    code: { text: "estimated probability that a skin lesion is malignant" },
    ...(item.answer ? { effectiveDateTime: item.answer.at.toISOString() } : {}),
    ...(malignancy
      ? { valueQuantity: { value: malignancy.probability, ...PERCENT } }
      : { dataAbsentReason: { text: assessment ? "not assessed" : (item.problem?.code ?? "unknown") } }),
    ...(assessment ? { interpretation: [{ text: assessment.decision }] } : {}),
    ...(assessment ? { device: { display: `${assessment.model.name} ${assessment.model.version}` } } : {}),
    ...(assessment ? { identifier: [{ value: assessment.request_id }] } : {}),
    note: [{ text: `${name}. ${t("disclaimer.all")}` }],
    ...(components.length > 0 ? { component: components } : {}),
  };
}

/** @param {Line[]} lines */
export function fhirOf(lines) {
  const bundle = {
    resourceType: "Bundle",
    type: "collection",
    timestamp: new Date().toISOString(),
    entry: lines.map((line) => ({ fullUrl: `urn:uuid:${uuid()}`, resource: observation(line) })),
  };
  return JSON.stringify(bundle, null, 2);
}

/** Works without a secure connection too, where crypto.randomUUID is missing. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

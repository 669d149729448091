// @ts-check
/** The HTTP API as the page and the embedded element use it. */

/** @typedef {import("../../../clients/typescript/src/schema.js").components["schemas"]} Schemas */
/** @typedef {Schemas["Assessment"]} Assessment */
/** @typedef {Schemas["Decision"]} Decision */
/** @typedef {Schemas["ClassProbability"]} LesionClass */
/** @typedef {Schemas["Health"]} Health */
/** @typedef {Schemas["ModelDetail"]} ModelDetail */
/** @typedef {Schemas["ModelList"]} ModelList */
/** @typedef {{code: string, text: string}} Note */

/** Beside the page, wherever that is mounted. */
export const BESIDE_THE_PAGE = "./api";
const UPLOAD_TIMEOUT_MS = 180_000;
const ASKING_TIMEOUT_MS = 10_000;

/** @type {readonly string[]} */
const DECISIONS = ["low_suspicion", "suspicious", "uncertain", "rejected"];

/** Codes for answers that carry none, as those of a proxy in between. */
const CODE_OF_STATUS = /** @type {Record<number, string>} */ ({
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  405: "method_not_allowed",
  413: "too_large",
  415: "unsupported_type",
  429: "rate_limited",
  500: "internal_error",
  502: "no_model",
  503: "no_model",
  504: "deadline",
});

/** Failures that the same picture, or the same page, would meet again. */
const FINAL = new Set([
  "unsupported_type",
  "heic",
  "too_large",
  "empty_file",
  "undecodable",
  "truncated",
  "too_small",
  "too_many_pixels",
  "no_picture",
  "unreadable_file",
  "unauthorized",
  "forbidden",
  "method_not_allowed",
  "origin_not_allowed",
  "cross_site",
  "unknown_host",
  "no_endpoint",
]);

/** Whether the same picture may be sent again. @param {{code: string}} problem */
export const mayRetry = ({ code }) => !FINAL.has(code);

/** A failure with a stable code, whether the server named it or it happened on the way. */
export class Problem extends Error {
  /**
   * @param {string} code
   * @param {{status?: number, detail?: string, own?: boolean, requestId?: string, retryAfter?: number | null,
   *   values?: Record<string, string>}} [more]
   */
  constructor(
    code,
    { status = 0, detail = "", own = false, requestId = "", retryAfter = null, values = {} } = {},
  ) {
    super(detail || code);
    this.code = code;
    this.status = status;
    this.detail = detail;
    /** whether the detail is in the page's language, not in the server's English */
    this.own = own;
    this.requestId = requestId;
    /** seconds */
    this.retryAfter = retryAfter;
    this.retryAt = Date.now() + (retryAfter ?? 0) * 1000;
    /** for the places in the page's sentence */
    this.values = values;
  }
}

/**
 * @param {string | null} header Retry-After: seconds or a date
 * @returns {number | null} seconds
 */
export function secondsToWait(header) {
  if (!header) return null;
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

/**
 * @param {string} text
 * @returns {Record<string, any> | null}
 */
function jsonObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/**
 * @param {number} status
 * @param {string} text
 * @param {(name: string) => string | null} header
 */
function problemOf(status, text, header) {
  const body = jsonObject(text) ?? {};
  return new Problem(
    typeof body.code === "string" ? body.code : (CODE_OF_STATUS[status] ?? "unexpected_answer"),
    {
      status,
      detail: typeof body.detail === "string" ? body.detail : "",
      requestId: typeof body.request_id === "string" ? body.request_id : (header("X-Request-ID") ?? ""),
      retryAfter:
        typeof body.retry_after === "number" ? body.retry_after : secondsToWait(header("Retry-After")),
    },
  );
}

/**
 * An answer is shown only when it holds what the page will say.
 *
 * @param {string} text
 * @returns {Assessment | null}
 */
function assessmentOf(text) {
  const body = jsonObject(text);
  if (!body || !DECISIONS.includes(body.decision)) return null;
  const { malignancy, quality, novelty, model, region, image } = body;
  const parts = [region, image, quality, novelty, model];
  const lists = [body.reasons, body.classes, quality?.warnings, image?.notes];
  if (!parts.every(Boolean) || !lists.every(Array.isArray)) return null;
  if (body.decision === "rejected") return /** @type {Assessment} */ (body);
  const numbers = [malignancy?.probability, malignancy?.threshold, malignancy?.prevalence];
  const band = malignancy?.uncertain ?? [];
  const complete = band.length === 2 && [...numbers, ...band].every(Number.isFinite);
  return complete ? /** @type {Assessment} */ (body) : null;
}

/**
 * Sends a picture and waits for its assessment. XMLHttpRequest, because fetch tells nothing of an upload's
 * progress.
 *
 * @param {Blob} file
 * @param {{signal: AbortSignal, onProgress?: (share: number) => void, endpoint?: string, model?: string,
 *   explain?: boolean}} options
 *   `share` of the upload, 0..1
 * @returns {Promise<Assessment>} rejects with a Problem, or with an AbortError when `signal` is aborted
 */
export function predict(
  file,
  { signal, onProgress, endpoint = BESIDE_THE_PAGE, model = "", explain = true },
) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    /** @param {() => void} settle */
    const settled = (settle) => {
      signal.removeEventListener("abort", stop);
      settle();
    };
    signal.addEventListener("abort", stop);
    const query = new URLSearchParams({ explain: String(explain), ...(model ? { model } : {}) });
    request.open("POST", `${endpoint}/predict?${query}`);
    request.timeout = UPLOAD_TIMEOUT_MS;
    request.setRequestHeader("Accept", "application/json, application/problem+json");
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable && event.total > 0) onProgress?.(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => onProgress?.(1));
    request.addEventListener("abort", () =>
      settled(() => reject(new DOMException("Cancelled", "AbortError"))),
    );
    request.addEventListener("error", () => settled(() => reject(new Problem("network"))));
    request.addEventListener("timeout", () => settled(() => reject(new Problem("timeout"))));
    request.addEventListener("load", () =>
      settled(() => {
        const header = (/** @type {string} */ name) => request.getResponseHeader(name);
        if (request.status !== 200) {
          reject(problemOf(request.status, request.responseText, header));
          return;
        }
        const assessment = assessmentOf(request.responseText);
        if (assessment) resolve(assessment);
        else
          reject(new Problem("unexpected_answer", { status: 200, requestId: header("X-Request-ID") ?? "" }));
      }),
    );
    const form = new FormData();
    // the name of a file may name a person; the server has no use for it
    form.append("file", file, "picture");
    request.send(form);
  });
}

/**
 * Asks for a JSON document.
 *
 * @param {string} path
 * @param {(body: Record<string, any>) => boolean} fits whether a body is what was asked for, whatever the
 *   status
 */
async function ask(path, fits) {
  let response;
  try {
    response = await fetch(`${BESIDE_THE_PAGE}/${path}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(ASKING_TIMEOUT_MS),
    });
  } catch {
    throw new Problem("network");
  }
  const text = await response.text().catch(() => "");
  const body = jsonObject(text);
  if (!body || !fits(body)) throw problemOf(response.status, text, (name) => response.headers.get(name));
  return body;
}

/**
 * How the service is. An answer of 503 carries the same document, so it is no failure here.
 *
 * @returns {Promise<Health>} rejects with a Problem when there is no such answer
 */
export async function health() {
  const isHealth = (/** @type {Record<string, any>} */ body) =>
    typeof body.status === "string" && typeof body.models === "object";
  return /** @type {Health} */ (await ask("health", isHealth));
}

/** The models that serve. @returns {Promise<Record<string, any>>} rejects with a Problem */
export const models = () => ask("models", (body) => Array.isArray(body.models));

/**
 * One model, with its metrics and card.
 * @param {string} name
 * @returns {Promise<Record<string, any>>} rejects with a Problem
 */
export const model = (name) =>
  ask(`models/${encodeURIComponent(name)}`, (body) => typeof body.card === "string");

/**
 * The data of a model's curves.
 * @param {string} name
 * @returns {Promise<Record<string, any>>} rejects with a Problem
 */
export const report = (name) =>
  ask(`models/${encodeURIComponent(name)}/report`, (body) => !("code" in body && "status" in body));

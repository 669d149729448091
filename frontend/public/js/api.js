// @ts-check
/** Client of the HTTP API, for the page and the embedded element. */

/** @typedef {import("../../../clients/typescript/src/schema.js").components["schemas"]} Schemas */
/** @typedef {Schemas["LesionAssessment"]} LesionAssessment */
/**
 * What the answer reports on the photographs that it is based on, each by its index.
 *
 * @typedef {Pick<LesionAssessment, "images" | "counted" | "left_out" | "disagreement" | "spread">} Together
 */
/** @typedef {Schemas["Assessment"] & {together?: Together}} Assessment */
/** @typedef {Schemas["Decision"]} Decision */
/** @typedef {Schemas["ClassProbability"]} LesionClass */
/** @typedef {Schemas["Comparison"]} Comparison */
/** @typedef {Schemas["Health"]} Health */
/** @typedef {Schemas["ModelDetail"]} ModelDetail */
/** @typedef {Schemas["ModelList"]} ModelList */
/** @typedef {{code: string, text: string}} Note */

/** Relative to the page, wherever it is mounted. */
export const BESIDE_THE_PAGE = "./api";
const UPLOAD_TIMEOUT_MS = 180_000;
const ASKING_TIMEOUT_MS = 10_000;

/** @type {readonly string[]} */
const DECISIONS = ["low_suspicion", "suspicious", "uncertain", "rejected"];

/** Codes for error responses without one, such as a proxy's. */
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

/** Failures that would recur with the same picture or the same page. */
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
  "no_comparison",
]);

/** Whether the same picture may be sent again. @param {{code: string}} problem */
export const mayRetry = ({ code }) => !FINAL.has(code);

/** A failure with a stable code, from the server or from the connection. */
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
    /** for the placeholders in the page's sentence */
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
 * Reads an answer; null unless it contains everything that the page shows.
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
 * Combines the answer for several photographs of one spot with the measurements of one of them.
 *
 * @param {LesionAssessment} answer
 * @param {number} place index of a photograph that could be read
 * @returns {Assessment}
 */
export function assessmentBeside(answer, place) {
  const { request_id, model, decision, reasons, malignancy, classes, most_likely } = answer;
  const { images, counted, left_out, disagreement, spread } = answer;
  const own = /** @type {Assessment} */ (images[place].assessment);
  const all = { request_id, model, decision, reasons, malignancy, classes, most_likely };
  return { ...own, ...all, together: { images, counted, left_out, disagreement, spread } };
}

/**
 * @param {string} text
 * @returns {Assessment | null} with the measurements of the first photograph that could be read
 */
function lesionOf(text) {
  const body = jsonObject(text);
  const lists = [body?.images, body?.counted, body?.left_out];
  if (!body || !lists.every(Array.isArray)) return null;
  const place = body.images.findIndex((/** @type {any} */ image) => image?.assessment);
  if (place < 0) throw problemOf(200, JSON.stringify(body.images[0]?.problem), () => null);
  const assessment = assessmentBeside(/** @type {any} */ (body), place);
  return assessmentOf(JSON.stringify(assessment));
}

/** @type {readonly string[]} */
const RESULTS = ["changed", "no_change_found", "not_comparable"];

/**
 * @param {string} text
 * @returns {Comparison | null}
 */
function comparisonOf(text) {
  const body = jsonObject(text);
  if (!body || !RESULTS.includes(body.result)) return null;
  if (![body.reasons, body.images].every(Array.isArray) || body.images.length !== 2) return null;
  const measures = [body.growth, body.colour_change].filter(Boolean);
  const finite = measures.every(({ value, low, high }) => [value, low, high].every(Number.isFinite));
  return finite ? /** @type {Comparison} */ (body) : null;
}

/** @typedef {{signal: AbortSignal, onProgress?: (share: number) => void, endpoint?: string, model?: string,
 *   explain?: boolean}} Options `share` of the upload, 0..1 */

/**
 * Sends a picture and waits for its assessment.
 *
 * @param {Blob} file
 * @param {Options} options
 * @returns {Promise<Assessment>} rejects with a Problem, or with an AbortError when `signal` is aborted
 */
export const predict = (file, options) => send("predict", [["file", file]], assessmentOf, options);

/**
 * Sends photographs of one spot and waits for their joint answer.
 *
 * @param {Blob[]} files
 * @param {Options} options
 * @returns {Promise<Assessment>} as `predict` does; `together` reports on each photograph
 */
export const predictLesion = (files, options) => sendSeveral("predict/lesion", files, lesionOf, options);

/**
 * Sends two photographs of one spot and waits for their comparison.
 *
 * @param {[earlier: Blob, later: Blob]} files
 * @param {Options} options
 * @returns {Promise<Comparison>} rejects with the Problem `no_comparison` if the service cannot compare
 */
export const comparePictures = (files, options) =>
  sendSeveral("compare", files, comparisonOf, options).catch((error) => {
    const absent = ["not_found", "method_not_allowed"].includes(error.code);
    throw absent ? new Problem("no_comparison", { status: error.status }) : error;
  });

/**
 * @template T
 * @param {string} path
 * @param {Blob[]} files
 * @param {(text: string) => T | null} read
 * @param {Options} options
 */
const sendSeveral = (path, files, read, options) =>
  send(
    path,
    files.map((file) => ["files", file]),
    read,
    options,
  );

/**
 * Sends pictures. Uses XMLHttpRequest because fetch does not report upload progress.
 *
 * @template T
 * @param {string} path
 * @param {[field: string, file: Blob][]} files
 * @param {(text: string) => T | null} read returns null if the text is no valid answer
 * @param {Options} options
 * @returns {Promise<T>}
 */
function send(
  path,
  files,
  read,
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
    request.open("POST", `${endpoint}/${path}?${query}`);
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
        const unexpected = { status: 200, requestId: header("X-Request-ID") ?? "" };
        try {
          const answer = read(request.responseText);
          if (answer) resolve(answer);
          else reject(new Problem("unexpected_answer", unexpected));
        } catch (error) {
          reject(error instanceof Problem ? error : new Problem("unexpected_answer", unexpected));
        }
      }),
    );
    const form = new FormData();
    // a file name may contain a person's name; the server does not need it
    for (const [field, file] of files) form.append(field, file, "picture");
    request.send(form);
  });
}

/**
 * Requests a JSON document.
 *
 * @param {string} path
 * @param {(body: Record<string, any>) => boolean} fits whether a body is the expected document, whatever the
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
 * The service's health. A 503 response carries the same document, so it is not an error here.
 *
 * @returns {Promise<Health>} rejects with a Problem if there is no such response
 */
export async function health() {
  const isHealth = (/** @type {Record<string, any>} */ body) =>
    typeof body.status === "string" && typeof body.models === "object";
  return /** @type {Health} */ (await ask("health", isHealth));
}

/** The models being served. @returns {Promise<Record<string, any>>} rejects with a Problem */
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

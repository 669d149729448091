/** The API's calls. Types come from `schema.ts`, which is generated; requests are openapi-fetch's. */

import createClient, { type Client as FetchClient } from "openapi-fetch";
import {
  AidermError,
  ConnectionFailedError,
  EXPECTED,
  failure,
  isProblem,
  ProblemError,
  TimedOutError,
  UnexpectedAnswerError,
} from "./errors.js";
import { RETRY, type Retry, retrying } from "./retry.js";
import type { components, paths } from "./schema.js";

export type Assessment = components["schemas"]["Assessment"];
type BatchAnswer = components["schemas"]["BatchAnswer"];
export type BatchItem = components["schemas"]["BatchItem"];
export type Comparison = components["schemas"]["Comparison"];
export type Decision = components["schemas"]["Decision"];
export type Health = components["schemas"]["Health"];
export type LesionAssessment = components["schemas"]["LesionAssessment"];
export type ModelDetail = components["schemas"]["ModelDetail"];
export type ModelList = components["schemas"]["ModelList"];
export type Report = Record<string, unknown>;

/** An image's bytes, or a file of a form. In Node: `await openAsBlob(path)` of `node:fs`. Its name is not sent. */
export type Picture = Blob | Uint8Array | ArrayBuffer;

export interface ClientOptions {
  /** Sent as `Authorization: Bearer`. Never put a key into a web page: let a server in front of it add the key. */
  readonly apiKey?: string;
  /** Seconds for each attempt. */
  readonly timeout?: number;
  readonly retry?: Partial<Retry>;
  readonly fetch?: typeof fetch;
}

export interface PredictOptions {
  /** Name of a model in `models()`; the service's default one when absent. */
  readonly model?: string;
  /** Draw the heatmap as well. */
  readonly explain?: boolean;
  /** Assess eight orientations, where `models()` says that the model offers it; takes longer. */
  readonly thorough?: boolean;
  /** Sent as `X-Request-ID` and found in the service's log. */
  readonly requestId?: string;
  readonly signal?: AbortSignal;
}

interface Answer {
  data?: unknown;
  error?: unknown;
  response: Response;
}

/**
 * Client of one service. Every call rejects with an `AidermError`: `ProblemError`, `ConnectionFailedError`,
 * `TimedOutError` or `UnexpectedAnswerError`; an abort by the caller's signal rejects with the signal's reason.
 */
export class Client {
  readonly #http: FetchClient<paths>;

  /** @param baseUrl of the service, with its prefix where it has one, such as `http://127.0.0.1:8080/api`. */
  constructor(baseUrl: string, options: ClientOptions = {}) {
    this.#http = createClient<paths>({
      baseUrl,
      fetch: retrying(options.fetch ?? globalThis.fetch, { ...RETRY, ...options.retry }, options.timeout ?? 60),
      headers: options.apiKey === undefined ? {} : { Authorization: `Bearer ${options.apiKey}` },
    });
  }

  /** Has one dermoscopic image assessed. */
  async predict(picture: Picture, options: PredictOptions = {}): Promise<Assessment> {
    // The schema calls a file's content a string; what is sent is the form.
    const body = form("file", [picture]) as unknown as { file: string };
    return settle<Assessment>(this.#http.POST("/predict", { body, ...parameters(options) }), options.signal);
  }

  /** Has several images assessed in one request; one item per image, in their order, each with an assessment or a problem. */
  async predictBatch(pictures: readonly Picture[], options: PredictOptions = {}): Promise<BatchItem[]> {
    const body = form("files", pictures) as unknown as { files: string[] };
    const asked = this.#http.POST("/predict/batch", { body, ...parameters(options) });
    return (await settle<BatchAnswer>(asked, options.signal)).results;
  }

  /** Has one lesion assessed by two to eight images of it; images that disagree make it `uncertain`. */
  async predictLesion(pictures: readonly Picture[], options: PredictOptions = {}): Promise<LesionAssessment> {
    const body = form("files", pictures) as unknown as { files: string[] };
    const asked = this.#http.POST("/predict/lesion", { body, ...parameters(options) });
    return settle<LesionAssessment>(asked, options.signal);
  }

  /** Says what has changed between two images of one lesion. That nothing was found rules nothing out. */
  async compare(earlier: Picture, later: Picture, options: PredictOptions = {}): Promise<Comparison> {
    const body = form("files", [earlier, later]) as unknown as { files: string[] };
    return settle<Comparison>(this.#http.POST("/compare", { body, ...parameters(options) }), options.signal);
  }

  /** State of the service and of each model; `unavailable` is an answer too, and no error. */
  async health(): Promise<Health> {
    return settle<Health>(
      this.#http.GET("/health").then((answer): Answer => {
        const { error, response } = answer;
        return response.status === 503 && isHealth(error) ? { data: error, response } : answer;
      }),
    );
  }

  /** The models that serve, with their thresholds and calibration. */
  async models(): Promise<ModelList> {
    return settle<ModelList>(this.#http.GET("/models"));
  }

  /** One model: its metrics with intervals, its data and its card. */
  async model(name: string): Promise<ModelDetail> {
    return settle<ModelDetail>(this.#http.GET("/models/{name}", { params: { path: { name } } }));
  }

  /** The data of one model's curves, as the trainer wrote them. */
  async report(name: string): Promise<Report> {
    return settle<Report>(this.#http.GET("/models/{name}/report", { params: { path: { name } } }));
  }
}

/** The assessment of one item of a batch; throws the `ProblemError` of a file that was refused. */
export function resultOf(item: BatchItem): Assessment {
  if (item.assessment !== null) return item.assessment;
  if (item.problem !== null) throw new ProblemError(item.problem);
  throw new AidermError(`item ${item.index} holds neither an assessment nor a problem`);
}

function form(field: string, pictures: readonly Picture[]): FormData {
  const data = new FormData();
  for (const picture of pictures) {
    // A file's name may name a patient; the service needs none.
    data.append(field, picture instanceof Blob ? picture : new Blob([picture as BlobPart]), "picture");
  }
  return data;
}

function parameters({ model, explain = false, thorough = false, requestId, signal }: PredictOptions) {
  return {
    params: { query: { explain, tta: thorough, ...(model === undefined ? {} : { model }) } },
    headers: requestId === undefined ? {} : { "X-Request-ID": requestId },
    ...(signal === undefined ? {} : { signal }),
  };
}

function isHealth(body: unknown): body is Health {
  return typeof body === "object" && body !== null && "models" in body && !isProblem(body);
}

/** The body of an answer, or the error that it stands for. (openapi-fetch's own type of it turns tuples into arrays.) */
async function settle<T>(asked: Promise<Answer>, signal?: AbortSignal): Promise<T> {
  let answer: Answer;
  try {
    answer = await asked;
  } catch (error) {
    if (signal?.aborted) throw error;
    if (error instanceof SyntaxError) throw new UnexpectedAnswerError(200, `${EXPECTED} Received: something else`);
    if (error instanceof DOMException && error.name === "TimeoutError") {
      throw new TimedOutError("no answer in time", { cause: error });
    }
    throw new ConnectionFailedError("no answer", { cause: error });
  }
  if (answer.response.ok && answer.data === undefined) {
    throw new UnexpectedAnswerError(answer.response.status, `${EXPECTED} Received: nothing`);
  }
  if (answer.data === undefined) throw failure(answer.response, answer.error);
  return answer.data as T;
}

/** What can go wrong: no answer, an answer that is none of this API's, or a problem with a stable code. */

import { retryAfterOf } from "./retry.js";
import type { components } from "./schema.js";

export type Problem = components["schemas"]["Problem"];

/** The codes that this version knows; a newer service may send others. */
export const PROBLEM_CODES = [
  "malformed_multipart",
  "malformed_request",
  "missing_file",
  "cross_site",
  "unknown_host",
  "request_timeout",
  "headers_too_large",
  "unauthorized",
  "not_found",
  "unknown_model",
  "method_not_allowed",
  "not_acceptable",
  "too_large",
  "unsupported_type",
  "empty_file",
  "undecodable",
  "truncated",
  "too_small",
  "too_many_pixels",
  "invalid_parameter",
  "rate_limited",
  "internal_error",
  "overloaded",
  "no_model",
  "deadline",
] as const;
export type ProblemCode = (typeof PROBLEM_CODES)[number];

/** Base of all errors of this package. */
export class AidermError extends Error {
  override name = "AidermError";
}

/** No answer came; `cause` says why. */
export class ConnectionFailedError extends AidermError {
  override name = "ConnectionFailedError";
}

/** No answer came in time. */
export class TimedOutError extends ConnectionFailedError {
  override name = "TimedOutError";
}

/** Something answered that is not this API, such as a proxy. */
export class UnexpectedAnswerError extends AidermError {
  override name = "UnexpectedAnswerError";

  constructor(
    readonly status: number,
    reason: string,
  ) {
    super(`status ${status}: ${reason}`);
  }
}

/** The service refused or failed, and said why. */
export class ProblemError extends AidermError {
  override name = "ProblemError";
  readonly code: ProblemCode | (string & {});

  constructor(
    /** The document; its `request_id` finds the request in the service's log. */
    readonly problem: Problem,
    /** Seconds after which another try may succeed, where the service said so. */
    readonly retryAfter: number | null = problem.retry_after ?? null,
  ) {
    super(`${problem.status} ${problem.code}: ${problem.detail} (request ${problem.request_id})`);
    this.code = problem.code;
  }
}

export const EXPECTED = "expected JSON of the AI Dermatologist.";

/** The error for a failed answer with this body. */
export function failure(response: Response, body: unknown): AidermError {
  if (!isProblem(body)) {
    const received = response.headers.get("content-type") ?? "no content type";
    return new UnexpectedAnswerError(response.status, `${EXPECTED} Received: ${received}`);
  }
  return new ProblemError(body, retryAfterOf(response.headers) ?? body.retry_after ?? null);
}

/** Whether this is a problem document. */
export function isProblem(body: unknown): body is Problem {
  if (typeof body !== "object" || body === null) return false;
  const fields = body as Record<string, unknown>;
  const texts = ["title", "code", "detail", "request_id"].every((name) => typeof fields[name] === "string");
  return texts && typeof fields["status"] === "number";
}

export * from "./client.js";
export {
  AidermError,
  ConnectionFailedError,
  PROBLEM_CODES,
  type Problem,
  type ProblemCode,
  ProblemError,
  TimedOutError,
  UnexpectedAnswerError,
} from "./errors.js";
export { RETRY, type Retry } from "./retry.js";
export type { components, operations, paths } from "./schema.js";

/** When to try again, and how long to wait before. */

/** Retries of 429, 503, 504 and connection failures. Every call may be repeated: a prediction changes nothing. */
export interface Retry {
  /** How often a request is sent at the most; 1 never repeats it. */
  readonly attempts: number;
  /** Seconds before the second attempt; doubled for each one after it. */
  readonly firstPause: number;
  /** Seconds that this growth stops at. */
  readonly longestPause: number;
  /** The longest `Retry-After` in seconds that is waited for; a longer one is left to the caller (`ProblemError.retryAfter`). */
  readonly longestWait: number;
  /** Numbers from 0 to 1, so that clients that failed together do not come back together. */
  readonly jitter: () => number;
}

export const RETRY: Retry = { attempts: 4, firstPause: 0.5, longestPause: 8, longestWait: 60, jitter: Math.random };

const STATUSES: ReadonlySet<number> = new Set([429, 503, 504]);

/** Seconds to wait after this attempt (from 1) failed; null when there is to be no other. */
export function pauseAfter(attempt: number, retry: Retry, retryAfter: number | null = null): number | null {
  if (attempt >= retry.attempts) return null;
  if (retryAfter !== null) {
    return retryAfter > retry.longestWait ? null : retryAfter + retry.firstPause * retry.jitter();
  }
  const grown = Math.min(retry.longestPause, retry.firstPause * 2 ** (attempt - 1));
  return (grown * (1 + retry.jitter())) / 2;
}

/** Seconds in a `Retry-After` header, which holds a number of them or an HTTP date; null where it says nothing. */
export function retryAfterOf(headers: Headers, now: number = Date.now()): number | null {
  const value = (headers.get("retry-after") ?? "").trim();
  if (/^\d+$/.test(value)) return Number(value);
  const date = Date.parse(value);
  if (Number.isNaN(date)) return null;
  // Against the answer's own date, so that wrong clocks do not matter.
  const sent = Date.parse(headers.get("date") ?? "");
  return Math.max(0, (date - (Number.isNaN(sent) ? now : sent)) / 1000);
}

/** A `fetch` that tries again as `retry` says, and gives each attempt `timeout` seconds. */
export function retrying(send: typeof fetch, retry: Retry, timeout: number): (request: Request) => Promise<Response> {
  return async (request) => {
    for (let attempt = 1; ; attempt++) {
      const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeout * 1000)]);
      let pause: number | null;
      try {
        const response = await send(request.clone(), { signal });
        pause = STATUSES.has(response.status) ? pauseAfter(attempt, retry, retryAfterOf(response.headers)) : null;
        if (pause === null) return response;
        await response.body?.cancel();
      } catch (error) {
        // fetch says with a TypeError that no answer came; a time-out or the caller's abort is something else.
        pause = error instanceof TypeError ? pauseAfter(attempt, retry) : null;
        if (pause === null) throw error;
      }
      await sleep(pause, request.signal);
    }
  };
}

function sleep(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

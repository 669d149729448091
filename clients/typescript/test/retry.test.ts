/** Retries and failures, against a server that answers what a test tells it to. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { Client, ConnectionFailedError, ProblemError, type Retry, TimedOutError, UnexpectedAnswerError } from "../src/index.js";
import { pauseAfter, retryAfterOf } from "../src/retry.js";
import { RETRY } from "../src/index.js";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
const QUICK: Partial<Retry> = { firstPause: 0.001, longestPause: 0.002 };

function problem(status: number, code: string, headers: Record<string, string> = {}): Handler {
  return (_, response) => {
    response.writeHead(status, { "content-type": "application/problem+json", ...headers });
    response.end(JSON.stringify({ title: "No", status, code, detail: "Received x; allowed y.", request_id: "r" }));
  };
}

const list: Handler = (_, response) => {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify({ default: "melanoma", models: [] }));
};

/** Answers one request with each handler, the last one for ever after; returns the address and the bodies that came. */
async function scripted(context: TestContext, ...handlers: Handler[]): Promise<{ url: string; bodies: string[] }> {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const handler = handlers[Math.min(bodies.length, handlers.length - 1)];
      bodies.push(Buffer.concat(chunks).toString("latin1"));
      handler?.(request, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, bodies };
}

test("429, 503 and 504 are tried again, with the same body", async (context) => {
  const { url, bodies } = await scripted(
    context,
    problem(503, "overloaded", { "retry-after": "0" }),
    problem(429, "rate_limited"),
    problem(504, "deadline"),
    (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ results: [] }));
    },
  );
  await new Client(url, { retry: QUICK }).predictBatch([new TextEncoder().encode("one picture"), new Blob(["two"])]);
  assert.equal(bodies.length, 4);
  for (const body of bodies) {
    assert.match(body, /one picture/);
    assert.match(body, /filename="picture"/);
  }
});

test("a connection that breaks is tried again", async (context) => {
  const { url, bodies } = await scripted(context, (request) => request.socket.destroy(), list);
  assert.equal((await new Client(url, { retry: QUICK }).models()).default, "melanoma");
  assert.equal(bodies.length, 2);
});

test("the attempts are counted, and then the problem is told", async (context) => {
  const { url, bodies } = await scripted(context, problem(503, "overloaded"));
  const failed = new Client(url, { retry: { ...QUICK, attempts: 2 } }).models();
  await assert.rejects(failed, (error: unknown) => error instanceof ProblemError && error.code === "overloaded");
  assert.equal(bodies.length, 2);
});

for (const [status, code] of [
  [400, "missing_file"],
  [401, "unauthorized"],
  [413, "too_large"],
  [500, "internal_error"],
] as const) {
  test(`${status} ${code} is not tried again`, async (context) => {
    const { url, bodies } = await scripted(context, problem(status, code));
    await assert.rejects(new Client(url, { retry: QUICK }).models(), { name: "ProblemError", code, retryAfter: null });
    assert.equal(bodies.length, 1);
  });
}

test("a longer Retry-After than may be waited for is left to the caller", async (context) => {
  const { url, bodies } = await scripted(context, problem(429, "rate_limited", { "retry-after": "3600" }));
  await assert.rejects(new Client(url, { retry: QUICK }).models(), { code: "rate_limited", retryAfter: 3600 });
  assert.equal(bodies.length, 1);
});

test("Retry-After is a number or a date", () => {
  const headers = (value: string, date?: string): Headers => new Headers({ "retry-after": value, ...(date ? { date } : {}) });
  assert.equal(retryAfterOf(headers("7")), 7);
  assert.equal(retryAfterOf(headers("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:29 GMT")), 30);
  assert.equal(retryAfterOf(headers("Fri, 31 Dec 1999 23:59:59 GMT"), Date.UTC(1999, 11, 31, 23, 59, 58)), 1);
  assert.equal(retryAfterOf(headers("Fri, 31 Dec 1999 23:59:59 GMT")), 0);
  assert.equal(retryAfterOf(headers("soon")), null);
  assert.equal(retryAfterOf(new Headers()), null);
});

test("pauses grow to a bound and never fall below what the service asked for", () => {
  const still = { ...RETRY, jitter: () => 1 };
  assert.deepEqual([1, 2, 3].map((attempt) => pauseAfter(attempt, still)), [0.5, 1, 2]);
  assert.equal(pauseAfter(4, still), null);
  assert.equal(pauseAfter(30, { ...still, attempts: 99 }), 8);
  assert.equal(pauseAfter(1, { ...still, jitter: () => 0 }), 0.25);
  assert.equal(pauseAfter(1, still, 10), 10.5);
  assert.equal(pauseAfter(1, still, 61), null);
});

test("a server that is not there, too slow, or another one", async (context) => {
  const once = { attempts: 1 };
  await assert.rejects(new Client("http://127.0.0.1:1", { retry: once }).models(), ConnectionFailedError);
  const { url } = await scripted(
    context,
    () => undefined,
    (_, response) => response.end("<html>"),
    (_, response) => response.writeHead(502).end("<html>"),
  );
  await assert.rejects(new Client(url, { retry: once, timeout: 0.1 }).models(), TimedOutError);
  await assert.rejects(new Client(url).models(), UnexpectedAnswerError);
  await assert.rejects(new Client(url).models(), { name: "UnexpectedAnswerError", status: 502 });
});

test("the caller's signal ends the waiting", async (context) => {
  const { url, bodies } = await scripted(context, problem(503, "overloaded", { "retry-after": "50" }));
  const stop = new AbortController();
  const asked = new Client(url).predict(new Uint8Array(1), { signal: stop.signal });
  while (bodies.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort(new Error("enough"));
  await assert.rejects(asked, /enough/);
});

test("the key is sent as Bearer, a request's id as X-Request-ID", async (context) => {
  let seen: IncomingMessage["headers"] = {};
  const { url } = await scripted(context, (request, response) => {
    seen = request.headers;
    problem(401, "unauthorized")(request, response);
  });
  const client = new Client(url, { apiKey: "secret" });
  await assert.rejects(client.predict(new Uint8Array(1), { requestId: "abc.1" }), { code: "unauthorized" });
  assert.equal(seen.authorization, "Bearer secret");
  assert.equal(seen["x-request-id"], "abc.1");
});

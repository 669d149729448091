/** Against a running service (AIDERM_URL, AIDERM_API_KEY); AIDERM_PICTURES is a folder with NAME.png for each decision. */

import assert from "node:assert/strict";
import { openAsBlob, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Client, PROBLEM_CODES, ProblemError, resultOf } from "../src/index.js";

const folder = process.env["AIDERM_PICTURES"] ?? "";
const url = process.env["AIDERM_URL"] ?? "";
const client = new Client(url, { apiKey: process.env["AIDERM_API_KEY"] ?? "" });
const picture = (name: string): Promise<Blob> => openAsBlob(join(folder, `${name}.png`));

for (const decision of ["low_suspicion", "suspicious", "uncertain", "rejected"] as const) {
  test(`predict answers ${decision}`, async () => {
    const assessment = await client.predict(await picture(decision), { explain: true, requestId: `node-${decision}` });
    assert.equal(assessment.decision, decision);
    assert.equal(assessment.request_id, `node-${decision}`);
    assert.match(assessment.disclaimer, /not a medical device/);
    if (decision === "rejected") {
      assert.equal(assessment.malignancy, null);
      assert.equal(assessment.heatmap, null);
    } else {
      assert.ok(assessment.malignancy !== null && assessment.malignancy.uncertain[0] <= assessment.malignancy.threshold);
      assert.match(assessment.heatmap ?? "", /^data:image\/png;base64,/);
    }
  });
}

test("bytes, buffers and blobs are pictures", async () => {
  const bytes = await readFile(join(folder, "suspicious.png"));
  for (const form of [bytes, new Uint8Array(bytes), new Uint8Array(bytes).buffer, new Blob([new Uint8Array(bytes)])]) {
    assert.equal((await client.predict(form)).decision, "suspicious");
  }
});

test("a batch has an assessment or a problem for each file", async () => {
  const items = await client.predictBatch([await picture("suspicious"), new TextEncoder().encode("%PDF-1.7\n"), await picture("rejected")]);
  assert.deepEqual(items.map((item) => item.index), [0, 1, 2]);
  const [first, second, third] = items;
  assert.ok(first && second && third);
  assert.equal(resultOf(first).decision, "suspicious");
  assert.throws(() => resultOf(second), { name: "ProblemError", code: "unsupported_type" });
  assert.equal(resultOf(third).decision, "rejected");
});

test("several images of one lesion have one answer", async () => {
  const answer = await client.predictLesion([await picture("suspicious"), await picture("rejected")]);
  assert.equal(answer.decision, "suspicious");
  assert.deepEqual(answer.counted, [0]);
  assert.equal(answer.left_out[0]?.reasons[0]?.code, "novelty");
});

test("two images of one lesion are compared, the earlier first", async () => {
  const answer = await client.compare(await picture("suspicious"), await picture("low_suspicion"));
  assert.equal(answer.result, "not_comparable");
  assert.equal(answer.reasons[0]?.code, "no_outline");
  assert.deepEqual(answer.images.map((image) => image.decision), ["suspicious", "low_suspicion"]);
});

test("refusals have their code", async () => {
  await assert.rejects(client.predict(new Uint8Array()), { code: "empty_file" });
  await assert.rejects(client.predict(await picture("suspicious"), { model: "moles" }), (error: unknown) => {
    assert.ok(error instanceof ProblemError);
    assert.equal(error.code, "unknown_model");
    assert.match(error.problem.detail, /moles/);
    return true;
  });
  await assert.rejects(new Client(url).predict(await picture("suspicious")), { code: "unauthorized" });
  await assert.rejects(client.model("a/b"), { name: "ProblemError" });
});

test("health, models, model and report", async () => {
  assert.equal((await client.health()).status, "ok");
  const models = await client.models();
  assert.equal(models.default, "melanoma");
  const model = await client.model(models.default);
  assert.ok(model.metrics["test"]?.["auc"]?.value);
  assert.ok((await client.report(models.default))["roc"]);
});

test("every code of the OpenAPI document is known", () => {
  const document = readFileSync(new URL("../../../openapi.json", import.meta.url), "utf8");
  const codes = new Set([...document.matchAll(/"code": "([a-z_]+)",\s+"detail"/g)].map(([, code]) => code));
  assert.ok(codes.size >= 15);
  for (const code of codes) assert.ok((PROBLEM_CODES as readonly string[]).includes(code ?? ""), code);
});

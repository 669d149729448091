// @ts-check
/**
 * A second reader's assessments before and after the model's answer, in this browser's database and as CSV.
 * Contains no pictures and no file names.
 */

import { csv } from "../csv.js";
import { Database, settled } from "../database.js";

/** @typedef {"refer" | "no_refer" | "unsure"} Opinion */
/** @typedef {{decision: Opinion, confidence: number, seconds: number}} Said `confidence` 0..1 */
/**
 * `probability` is null if the model rejected the picture; `after` is null until it is given;
 * `photographs`: how many of the spot both assessed, 1 if missing.
 *
 * @typedef {{id: string, at: number, reader: string, case: string, before: Said, decision: string,
 *   probability: number | null, model: string, after: Said | null, photographs?: number}} Reading
 */

/** @type {readonly Opinion[]} */
export const OPINIONS = ["refer", "no_refer", "unsure"];
/** The columns that `aiderm-train reader-study` reads; `truth` is to be filled in later. */
const COLUMNS = [
  ...["reader", "case", "truth", "before_decision", "before_confidence", "before_seconds"],
  ...["model_decision", "model_probability", "model"],
  ...["after_decision", "after_confidence", "after_seconds", "photographs"],
];

const database = new Database("aiderm-readings", { readings: [] });

/** All readings, oldest first. @returns {Promise<Reading[]>} */
export async function readings() {
  if (!(await database.exists())) return [];
  const all = await database.transact("readonly", (store) => settled(store.getAll()));
  return all.sort((one, other) => one.at - other.at);
}

/** Adds or replaces one. @param {Reading} reading */
export const keep = (reading) =>
  database.transact("readwrite", (store) => {
    store.put(reading);
  });

/** @param {string} id */
export const remove = (id) =>
  database.transact("readwrite", (store) => {
    store.delete(id);
  });

/** Deletes the database. */
export const removeAll = () => database.remove();

/** @param {Said} said */
const cells = ({ decision, confidence, seconds }) => [decision, confidence, seconds.toFixed(1)];

/** The complete readings as CSV, in the API's terms. @param {Reading[]} all */
export const toCsv = (all) =>
  csv(
    COLUMNS,
    all.flatMap(({ reader, case: name, before, decision, probability, model, after, photographs = 1 }) => {
      if (!after) return [];
      const models = [decision, probability ?? "", model];
      return [[reader, name, "", ...cells(before), ...models, ...cells(after), photographs]];
    }),
  );

// @ts-check
/** Tables with row headings, in a container that scrolls if they are too wide. */

import { el } from "./dom.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * @param {string} caption
 * @param {(string | null)[]} columns their headings, if any; null for none, as above row headings
 * @param {[name: Child, ...cells: Child[]][]} rows
 * @param {string} [kind] further classes
 */
export const table = (caption, columns, rows, kind = "") =>
  el(
    "div",
    { class: `${kind} scroll`.trim(), tabindex: 0, role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", {}, caption),
      columns.length > 0 && el("thead", {}, el("tr", {}, columns.map(heading))),
      el("tbody", {}, rows.map(row)),
    ),
  );

/** @param {string | null} column */
const heading = (column) => (column === null ? el("td") : el("th", { scope: "col" }, column));

/** @param {[name: Child, ...cells: Child[]]} row */
const row = ([name, ...cells]) =>
  el(
    "tr",
    {},
    el("th", { scope: "row" }, name),
    cells.map((cell) => el("td", {}, cell)),
  );

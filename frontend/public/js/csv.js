// @ts-check
/** Tables as CSV (RFC 4180). */

/** Escapes a cell; a spreadsheet would run some as formulas. @param {string | number} value */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {string[]} head @param {(string | number)[][]} rows */
export const csv = (head, rows) =>
  [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";

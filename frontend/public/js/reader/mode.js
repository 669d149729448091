// @ts-check
/** Second-reader mode: whether the reader assesses first, and the reader's label. */

const KEY = "aiderm-reader";
/** The reader's label; null: the mode is off. @type {string | null | undefined} */
let label;

/** The label chosen in this browser, which stores nothing until one is chosen. */
export function readerLabel() {
  if (label !== undefined) return label;
  try {
    label = localStorage.getItem(KEY);
  } catch {
    label = null; // the browser has no storage
  }
  return label;
}

/**
 * Event on the document: `reader`.
 * @param {string | null} chosen stored in this browser if possible; null turns the mode off
 */
export function chooseReader(chosen) {
  label = chosen;
  try {
    if (chosen === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, chosen);
  } catch {
    // it applies to this visit
  }
  document.dispatchEvent(new Event("reader"));
}

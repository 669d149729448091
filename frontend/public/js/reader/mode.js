// @ts-check
/** Whether the reader commits to an assessment before the model's answer is shown, and under which label. */

const KEY = "aiderm-reader";
/** The reader's label; null: the mode is off. @type {string | null | undefined} */
let label;

/** What was chosen in this browser, which stores nothing for those who chose nothing. */
export function readerLabel() {
  if (label !== undefined) return label;
  try {
    label = localStorage.getItem(KEY);
  } catch {
    label = null; // a browser that keeps nothing
  }
  return label;
}

/**
 * Event out: `reader` at the document.
 * @param {string | null} chosen kept in this browser where that is possible; null turns the mode off
 */
export function chooseReader(chosen) {
  label = chosen;
  try {
    if (chosen === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, chosen);
  } catch {
    // it holds for this visit
  }
  document.dispatchEvent(new Event("reader"));
}

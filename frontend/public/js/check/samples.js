// @ts-check
/**
 * The gallery of drawn sample pictures: one click shows the model's answer.
 * frontend/tools/choose_samples.py draws them.
 */

import { find } from "../dom.js";

/**
 * @param {(file: File) => Promise<void>} assess adds a picture and has it assessed
 * @param {() => void} failed
 */
export function startSamples(assess, failed) {
  find("#samples", HTMLElement).addEventListener("click", async (event) => {
    const target = /** @type {HTMLElement} */ (event.target).closest("[data-sample]");
    if (!(target instanceof HTMLElement)) return;
    const name = target.dataset.sample ?? "";
    try {
      const response = await fetch(new URL(`../../img/samples/${name}.jpg`, import.meta.url));
      if (!response.ok) throw new Error(`${response.status}`);
      const file = new File([await response.blob()], target.textContent ?? name, { type: "image/jpeg" });
      await assess(file);
    } catch {
      failed();
    }
  });
}

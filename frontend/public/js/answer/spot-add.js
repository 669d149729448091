// @ts-check
/** The dialog to add further photographs of a spot: chosen, taken, dropped or pasted. */

import { Problem } from "../api.js";
import { button, el, openDialog } from "../dom.js";
import { t } from "../i18n.js";
import { shownOf } from "../intake/bitmap.js";
import { prepare } from "../intake/files.js";
import { dropped, pasted } from "../intake/picker.js";

/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("../check/state.js").Another} Another */
/** @typedef {import("../check/state.js").Prepared} Prepared */

/** @param {Prepared} prepared @returns {Promise<Another>} */
export async function anotherOf({ file, digest }) {
  const shown = await shownOf(file).catch(() => file);
  return { file, digest, url: URL.createObjectURL(shown) };
}

/**
 * The files that the item does not have yet; rejects with a Problem.
 *
 * @param {File[]} files
 * @param {Item} item
 * @returns {Promise<Prepared[]>}
 */
async function freshOf(files, { digest, others }) {
  if (files.length === 0) throw new Problem("no_picture");
  const known = new Set([digest, ...others.map((other) => other.digest)]);
  const prepared = await Promise.all(files.map(prepare));
  const single = new Map(prepared.map((one) => [one.digest, one]));
  return [...single.values()].filter((one) => !known.has(one.digest));
}

/**
 * @param {Item} item
 * @param {number} room how many more are allowed
 * @returns {Promise<Another[]>} empty if the reader cancels
 */
export function askForPhotographs(item, room) {
  return new Promise((resolve) => {
    const said = el("p", { role: "alert" });
    const take = async (/** @type {File[]} */ files) => {
      said.textContent = "";
      try {
        const fresh = await freshOf(files, item);
        if (fresh.length === 0) said.textContent = t("spot.twice");
        else if (fresh.length > room) said.textContent = t("spot.room", { most: room });
        else {
          resolve(await Promise.all(fresh.map(anotherOf)));
          dialog.close();
        }
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        said.textContent = t(`problem.${error.code}.title`);
      }
    };
    const photograph = async () => {
      const camera = await import("../intake/camera.js");
      const file = await camera.photograph({}); // in a dialog on top of this one
      if (file) await take([file]);
    };
    const accept = document.querySelector("derm-picker input")?.getAttribute("accept");
    const input = /** @type {HTMLInputElement} */ (el("input", { type: "file", accept, multiple: true }));
    input.addEventListener("change", () => {
      const files = [...(input.files ?? [])];
      input.value = ""; // the same file may be chosen again
      if (files.length > 0) take(files);
    });
    const dialog = openDialog(
      "spot-add",
      el("h2", {}, t("check.addPhotograph")),
      el("p", {}, t("spot.lead", { most: room })),
      said,
      el(
        "div",
        { class: "actions" },
        el("label", { class: "button primary" }, input, el("span", {}, t("picture.choose"))),
        button(t("picture.camera"), photograph),
        button(t("common.cancel"), () => dialog.close()),
      ),
    );
    takeWhile(dialog, take).addEventListener("abort", () => resolve([]));
  });
}

/**
 * Takes files dropped or pasted anywhere while a dialog is in front, and closes it when the view changes.
 *
 * @param {HTMLDialogElement} dialog
 * @param {(files: File[]) => void} take
 * @returns {AbortSignal} aborted when it closes
 */
function takeWhile(dialog, take) {
  const open = new AbortController();
  const { signal } = open;
  const inFront = () => [...document.querySelectorAll("dialog[open]")].at(-1) === dialog;
  dialog.addEventListener("close", () => open.abort());
  window.addEventListener("hashchange", () => dialog.close(), { signal });
  document.addEventListener(
    "dragover",
    (event) => {
      if (!inFront() || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // else the browser would leave the page and open the file
      event.dataTransfer.dropEffect = "copy";
    },
    { signal },
  );
  document.addEventListener("drop", (event) => inFront() && dropped(event).then(take), { signal });
  // on the document: a click on the dialog's text takes the focus from its buttons
  document.addEventListener("paste", (event) => inFront() && take(pasted(event)), { signal });
  return signal;
}

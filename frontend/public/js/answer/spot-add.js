// @ts-check
/** The dialog that takes further photographs of a spot: chosen, photographed, dropped or pasted. */

import { Problem } from "../api.js";
import { button, el, openDialog } from "../dom.js";
import { t } from "../i18n.js";
import { asPng, bitmapOf, isShown } from "../intake/bitmap.js";
import { prepare } from "../intake/files.js";

/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("../check/state.js").Another} Another */

/** What the browser itself shows of a file. @param {File} file @returns {Promise<Blob>} */
async function shownOf(file) {
  if (await isShown(file)) return file;
  const bitmap = await bitmapOf(file);
  const shown = await asPng(bitmap);
  bitmap.close();
  return shown;
}

/**
 * @param {Item} item
 * @param {number} room how many more there may be
 * @returns {Promise<Another[]>} none where the reader changes his mind
 */
export function askForPhotographs(item, room) {
  return new Promise((resolve) => {
    /** @type {Another[]} */
    let added = [];
    const said = el("p", { role: "alert" });
    const take = async (/** @type {File[]} */ files) => {
      said.textContent = "";
      try {
        const known = new Set([item.digest, ...item.others.map(({ digest }) => digest)]);
        const prepared = await Promise.all(files.map(prepare));
        const fresh = [...new Map(prepared.map((one) => [one.digest, one])).values()].filter(
          ({ digest }) => !known.has(digest),
        );
        if (fresh.length === 0) said.textContent = t("spot.twice");
        else if (fresh.length > room) said.textContent = t("spot.room", { most: room });
        else {
          added = await Promise.all(
            fresh.map(async ({ file, digest }) => {
              const shown = await shownOf(file).catch(() => file);
              return { file, digest, url: URL.createObjectURL(shown) };
            }),
          );
          dialog.close();
        }
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        said.textContent = t(`problem.${error.code}.title`);
      }
    };
    const photograph = async () => {
      dialog.removeEventListener("close", end);
      dialog.close();
      const camera = await import("../intake/camera.js");
      const file = await camera.photograph({});
      if (file) await take([file]);
      end();
    };
    const input = /** @type {HTMLInputElement} */ (
      el("input", { type: "file", accept: "image/*", multiple: true })
    );
    input.addEventListener("change", () => take([...(input.files ?? [])]));
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
    const end = () => resolve(added);
    dialog.addEventListener("close", end);
    dialog.addEventListener("dragover", (event) => event.preventDefault());
    dialog.addEventListener("drop", ({ dataTransfer }) => take([...(dataTransfer?.files ?? [])]));
    dialog.addEventListener("paste", ({ clipboardData }) => take([...(clipboardData?.files ?? [])]));
  });
}

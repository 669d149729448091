// @ts-check
/** The dialogs of the history: one picture, large, with its date and its spot; the name of a spot. */

import { button, el, openDialog } from "../dom.js";
import { t } from "../i18n.js";
import { moleName } from "./keep.js";
import { SITES, changePicture, write } from "./store.js";

/** @typedef {import("./store.js").Mole} Mole */
/** @typedef {import("./store.js").Picture} Picture */

/** Of a day in this device's time. @param {number} at milliseconds since 1970 */
function dayOf(at) {
  const day = new Date(at);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
}

/**
 * @param {Picture} picture
 * @param {Mole[]} moles
 * @param {{image: HTMLElement, title: string, changed: () => Promise<void>}} content
 */
export function openPicture(picture, moles, { image, title, changed }) {
  const day = /** @type {HTMLInputElement} */ (
    el("input", { type: "date", value: dayOf(picture.takenAt), max: dayOf(Date.now()) })
  );
  const which = /** @type {HTMLSelectElement} */ (
    el(
      "select",
      {},
      ...moles.map((mole) =>
        el("option", { value: mole.id, selected: mole.id === picture.mole }, moleName(mole)),
      ),
    )
  );
  const save = async () => {
    const chosen = day.valueAsDate && day.value !== dayOf(picture.takenAt);
    // at noon, so that no change of the clocks moves it to another day
    const takenAt = chosen ? new Date(`${day.value}T12:00`).getTime() : picture.takenAt;
    dialog.close();
    await changePicture({ ...picture, takenAt, mole: which.value });
    await changed();
  };
  const again = () => {
    dialog.close();
    const file = new File([picture.picture], title, { type: picture.picture.type });
    document.dispatchEvent(new CustomEvent("recheck", { detail: { file, mole: picture.mole } }));
  };
  const dialog = openDialog(
    "picture-dialog",
    el("h2", {}, title),
    image,
    el(
      "div",
      { class: "form" },
      el("label", { class: "field" }, t("history.edit.date"), day),
      el("label", { class: "field" }, t("history.keep.which"), which),
    ),
    el(
      "div",
      { class: "actions" },
      button(t("history.edit.save"), save, "primary"),
      button(t("history.edit.again"), again),
      button(t("common.close"), () => dialog.close()),
    ),
  );
}

/** @param {Mole} mole @param {() => Promise<void>} changed */
export function renameMole(mole, changed) {
  const site = /** @type {HTMLSelectElement} */ (
    el(
      "select",
      {},
      ...SITES.map((name) => el("option", { value: name, selected: name === mole.site }, t(`site.${name}`))),
    )
  );
  const label = /** @type {HTMLInputElement} */ (
    el("input", { type: "text", maxlength: 60, autocomplete: "off", value: mole.label })
  );
  const save = async () => {
    dialog.close();
    await write({ moles: [{ ...mole, site: site.value, label: label.value.trim() }], pictures: [] });
    await changed();
  };
  const dialog = openDialog(
    "rename",
    el("h2", {}, t("history.edit.rename")),
    el("label", { class: "field" }, t("history.keep.site"), site),
    el("label", { class: "field" }, t("history.keep.label"), label),
    el(
      "div",
      { class: "actions" },
      button(t("history.edit.save"), save, "primary"),
      button(t("common.cancel"), () => dialog.close()),
    ),
  );
}

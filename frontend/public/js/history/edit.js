// @ts-check
/** Dialogs of the history: a large picture with its date and spot; the name of a spot. */

import { button, el, openDialog } from "../dom.js";
import { t } from "../i18n.js";
import { dayField, moleField, spotFields } from "./fields.js";
import { traced } from "./traced.js";
import { keepPicture, shotsOf, write } from "./store.js";

/** @typedef {import("./store.js").Mole} Mole */
/** @typedef {import("./store.js").Picture} Picture */

/**
 * @param {Picture} picture
 * @param {Mole[]} moles
 * @param {{images: HTMLImageElement[], title: string, changed: () => Promise<void>}} content `images` of its
 *   photographs
 */
export function openPicture(picture, moles, { images, title, changed }) {
  const shots = shotsOf(picture);
  const day = dayField(picture.takenAt);
  const which = moleField(moles, picture.mole);
  const save = async () => {
    const takenAt = day.read();
    if (takenAt === null) return;
    dialog.close();
    await keepPicture(null, { ...picture, takenAt, mole: which.control.value });
    await changed();
  };
  const again = () => {
    dialog.close();
    const files = shots.map(({ picture: shot }) => new File([shot], title, { type: shot.type }));
    document.dispatchEvent(new CustomEvent("recheck", { detail: { files, mole: picture.mole } }));
  };
  const dialog = openDialog(
    "picture-dialog",
    el("h2", {}, title),
    traced(images, shots),
    el("div", { class: "form" }, day.field, which.field),
    actions(
      save,
      button(t("history.edit.again"), again),
      button(t("common.close"), () => dialog.close()),
    ),
  );
}

/** @param {Mole} mole @param {() => Promise<void>} changed */
export function renameMole(mole, changed) {
  const spot = spotFields(mole);
  const save = async () => {
    dialog.close();
    await write({ moles: [{ ...mole, ...spot.read() }], pictures: [] });
    await changed();
  };
  const dialog = openDialog(
    "rename",
    el("h2", {}, t("history.edit.rename")),
    ...spot.fields,
    actions(
      save,
      button(t("common.cancel"), () => dialog.close()),
    ),
  );
}

/** @param {() => Promise<void>} save @param {...HTMLElement} others */
const actions = (save, ...others) =>
  el("div", { class: "actions" }, button(t("history.edit.save"), save, "primary"), ...others);

// @ts-check
/** Fields shared by the history's forms: which spot, where it is, its name, and a picture's date. */

import { el } from "../dom.js";
import { t } from "../i18n.js";
import { SITES } from "./store.js";

/** @typedef {import("./store.js").Mole} Mole */

/** @param {Mole} mole */
export const moleName = ({ label, site }) =>
  label ? t("history.moleNamed", { site: t(`site.${site}`), label }) : t(`site.${site}`);

/** @param {string} label @param {HTMLElement} control */
const field = (label, control) => el("label", { class: "field" }, label, control);

/** @param {[value: string, text: string][]} options @param {string | null} chosen */
const select = (options, chosen) =>
  /** @type {HTMLSelectElement} */ (
    el(
      "select",
      {},
      ...options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)),
    )
  );

/**
 * @param {Mole[]} moles
 * @param {string | null} chosen id of one of them
 * @param {boolean} mayBeNew whether a new spot can be chosen; its value is ""
 */
export function moleField(moles, chosen, mayBeNew = false) {
  const known = moles.map((mole) => /** @type {[string, string]} */ ([mole.id, moleName(mole)]));
  const control = select(mayBeNew ? [["", t("history.keep.newMole")], ...known] : known, chosen);
  return { control, field: field(t("history.keep.which"), control) };
}

/** Fields for a spot's site and name. @param {{site: string, label: string} | null} [spot] */
export function spotFields(spot = null) {
  const site = select(
    SITES.map((name) => [name, t(`site.${name}`)]),
    spot?.site ?? "other", // unknown: the first of the list would be a claim
  );
  const label = /** @type {HTMLInputElement} */ (
    el("input", { type: "text", maxlength: 60, autocomplete: "off", value: spot?.label ?? "" })
  );
  return {
    fields: [field(t("history.keep.site"), site), field(t("history.keep.label"), label)],
    read: () => ({ site: site.value, label: label.value.trim() }),
  };
}

/** The date in this device's time zone, as YYYY-MM-DD. @param {number} at milliseconds since 1970 */
function dayOf(at) {
  const day = new Date(at);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
}

/**
 * A field for a picture's date, up to today.
 *
 * @param {number} at milliseconds since 1970, the initial value
 * @returns {{field: HTMLElement, read: () => number | null}} `read` returns milliseconds since 1970; null if
 *   the date is invalid; the browser then says so beside the field
 */
export function dayField(at) {
  const control = /** @type {HTMLInputElement} */ (
    el("input", { type: "date", required: true, value: dayOf(at), max: dayOf(Date.now()) })
  );
  const read = () => {
    if (!control.reportValidity()) return null;
    // at noon, so that daylight saving does not move it to another day
    return control.value === dayOf(at) ? at : new Date(`${control.value}T12:00`).getTime();
  };
  return { field: field(t("history.edit.date"), control), read };
}

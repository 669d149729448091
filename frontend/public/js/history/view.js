// @ts-check
/** The view of the history: moles with their pictures by date; export, import, delete. Readable without a network. */

import { button, download, el, openDialog } from "../dom.js";
import { date, t } from "../i18n.js";
import { compare } from "./compare.js";
import { moleName } from "./keep.js";
import { deleteAll, deletePicture, isOn, readAll, turnOn, write } from "./store.js";
import { fromFile, toFile } from "./transfer.js";

/** @typedef {import("./store.js").Mole} Mole */
/** @typedef {import("./store.js").Picture} Picture */

/** Addresses of the pictures on the page. @type {Map<string, string>} */
const addresses = new Map();

/** @param {Picture} picture */
function addressOf(picture) {
  const known = addresses.get(picture.id) ?? URL.createObjectURL(picture.picture);
  addresses.set(picture.id, known);
  return known;
}

/** @param {HTMLElement} place @param {string} [words] said of what was just done */
export async function show(place, words = "") {
  for (const address of addresses.values()) URL.revokeObjectURL(address);
  addresses.clear();
  const on = await isOn();
  const { moles, pictures } = on ? await readAll() : { moles: [], pictures: [] };
  const said = el("p", { role: "status", class: "soft" });
  place.replaceChildren(
    el("div", { class: "intro" }, el("h1", {}, t("history.title")), el("p", { class: "lead" }, t("history.lead"))),
    said,
    ...(on ? moles.map((mole) => moleCard(place, mole, pictures.filter((picture) => picture.mole === mole.id))) : []),
    ...(moles.length > 0 ? [] : [el("section", { class: "card" }, el("h2", {}, t(on ? "history.empty" : "history.off")), el("p", {}, t(on ? "history.emptyText" : "history.offText")), el("div", { class: "actions" }, on ? el("a", { class: "button primary", href: "#check" }, t("history.toCheck")) : button(t("history.turnOn"), async () => {
      await turnOn();
      await show(place, t("history.isOn"));
    }, "primary")))]),
    handling(place, on),
  );
  said.textContent = words; // after it came into the document, so that it is announced
}

/**
 * @param {HTMLElement} place
 * @param {Mole} mole
 * @param {Picture[]} pictures
 */
function moleCard(place, mole, pictures) {
  const name = moleName(mole);
  const last = pictures.at(-1);
  const shots = pictures.map((picture) => {
    const day = date(new Date(picture.takenAt));
    return el(
      "li",
      {},
      el("img", { src: addressOf(picture), alt: t("compare.alt", { name, day }), loading: "lazy" }),
      el("p", { class: "date" }, el("time", { datetime: new Date(picture.takenAt).toISOString() }, day)),
      button(t("history.delete"), () => confirm(t("history.deletePicture", { name, day }), async () => {
        await deletePicture(picture);
        await show(place, t("history.deleted"));
      }), "", { "aria-label": t("history.deleteNamed", { name, day }) }),
    );
  });
  return el(
    "section",
    { class: "card", "aria-label": name },
    el("div", { class: "mole-head" }, el("h2", {}, name), el("span", { class: "soft" }, t("history.count", { count: pictures.length }))),
    el("ul", { class: "dates" }, ...shots),
    el(
      "div",
      { class: "actions" },
      pictures.length > 1 && button(t("history.compare"), () => compare(name, pictures, addressOf), "primary"),
      last && button(t("history.again"), () => document.dispatchEvent(new CustomEvent("photograph", { detail: { ghost: addressOf(last), mole: mole.id } }))),
    ),
  );
}

/** @param {HTMLElement} place @param {boolean} on */
function handling(place, on) {
  const input = /** @type {HTMLInputElement} */ (el("input", { type: "file", id: "import", accept: "application/json,.json" }));
  input.addEventListener("change", async () => {
    const [file] = input.files ?? [];
    if (!file) return;
    try {
      const content = await fromFile(file);
      await write(content);
      await show(place, t("history.imported", { count: content.pictures.length }));
    } catch {
      await show(place, t("history.notImported"));
    }
  });
  return el(
    "section",
    { class: "card", "aria-label": t("history.handling") },
    el("h2", {}, t("history.handling")),
    el("p", { class: "soft" }, t("history.stays")),
    el(
      "div",
      { class: "actions" },
      on && button(t("history.export"), async () => download(await toFile(await readAll()), "aiderm-history.json")),
      el("label", { class: "button" }, input, el("span", {}, t("history.import"))),
      on && button(t("history.deleteAll"), () => confirm(t("history.deleteAllQuestion"), async () => {
        await deleteAll();
        await show(place, t("history.allDeleted"));
      })),
    ),
  );
}

/** @param {string} question @param {() => Promise<void>} act */
function confirm(question, act) {
  const dialog = openDialog(
    "confirm",
    el("h2", {}, question),
    el("p", {}, t("history.noWayBack")),
    el(
      "div",
      { class: "actions" },
      button(t("common.cancel"), () => dialog.close(), "primary"),
      button(t("history.deleteYes"), async () => {
        dialog.close();
        await act();
      }),
    ),
  );
}

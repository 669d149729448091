// @ts-check
/**
 * The view of the history: moles with their pictures by date; export, import, delete. Readable offline.
 */

import { button, download, el, intro, openDialog } from "../dom.js";
import { bytes, date, t } from "../i18n.js";
import { compare } from "./compare.js";
import { openPicture, renameMole } from "./edit.js";
import { moleName } from "./fields.js";
import { deleteAll, deletePicture, isOn, readAll, shotsOf, turnOn, write } from "./store.js";
import { fromFile, toFile } from "./transfer.js";

/** @typedef {import("./store.js").Mole} Mole */
/** @typedef {import("./store.js").Picture} Picture */

/** Object URLs of the pictures on the page. @type {Map<string, string>} */
const addresses = new Map();

/** @typedef {Pick<Picture, "id" | "picture">} Shown */

/** @param {Shown} picture */
function addressOf(picture) {
  const known = addresses.get(picture.id) ?? URL.createObjectURL(picture.picture);
  addresses.set(picture.id, known);
  return known;
}

/** @param {Shown} picture @param {string} alt */
function pictureOf(picture, alt) {
  const image = /** @type {HTMLImageElement} */ (
    el("img", { src: addressOf(picture), alt, loading: "lazy" })
  );
  // for a format that this browser cannot show
  const decode = async () => {
    const { asPng, bitmapOf } = await import("../intake/bitmap.js");
    const bitmap = await bitmapOf(picture.picture);
    addresses.set(picture.id, URL.createObjectURL(await asPng(bitmap)));
    bitmap.close();
    image.src = addressOf(picture);
  };
  image.addEventListener("error", () => decode().catch(() => {}), { once: true });
  return image;
}

/**
 * @param {HTMLElement} place
 * @param {string} [words] on what was just done; they take the focus, as the control used may be gone
 */
export async function show(place, words = "") {
  for (const address of addresses.values()) URL.revokeObjectURL(address);
  addresses.clear();
  const opening = intro(t("history.title"), t("history.lead"));
  const content = await isOn()
    .then(async (on) => ({ on, ...(on ? await readAll() : { moles: [], pictures: [] }) }))
    .catch(() => null);
  if (!content) {
    place.replaceChildren(opening, el("p", { class: "notice" }, t("history.blocked")));
    return;
  }
  const { on, moles, pictures } = content;
  const said = el("p", { role: "status", class: "soft", tabindex: "-1" });
  place.replaceChildren(
    opening,
    said,
    ...moles.map((mole) =>
      moleCard(
        place,
        mole,
        pictures.filter((picture) => picture.mole === mole.id),
        moles,
      ),
    ),
    ...(moles.length > 0 ? [] : [emptyCard(place, on)]),
    handling(place, on),
  );
  if (!words) return;
  said.textContent = words; // once it is in the document, so that it is announced
  said.focus();
}

/** @param {HTMLElement} place @param {boolean} on */
function emptyCard(place, on) {
  const turn = async () => {
    await turnOn();
    await show(place, t("history.isOn"));
  };
  const next = on
    ? el("a", { class: "button primary", href: "#check" }, t("history.toCheck"))
    : button(t("history.turnOn"), turn, "primary");
  return el(
    "section",
    { class: "card" },
    el("h2", {}, t(on ? "history.empty" : "history.off")),
    el("p", {}, t(on ? "history.emptyText" : "history.offText")),
    el("div", { class: "actions" }, next),
  );
}

/**
 * @param {HTMLElement} place
 * @param {Mole} mole
 * @param {Picture[]} pictures
 * @param {Mole[]} moles all of them
 */
function moleCard(place, mole, pictures, moles) {
  const name = moleName(mole);
  const last = pictures.at(-1);
  const changed = () => show(place, t("history.edit.saved"));
  const shots = pictures.map((picture) => {
    const day = date(new Date(picture.takenAt));
    const all = shotsOf(picture);
    const several = all.length > 1;
    return el(
      "li",
      {},
      pictureOf(picture, t("compare.alt", { name, day })),
      el("p", { class: "date" }, el("time", { datetime: new Date(picture.takenAt).toISOString() }, day)),
      several && el("p", { class: "date" }, t("history.count", { count: all.length })),
      button(
        t("history.edit.open"),
        () => {
          const title = t("compare.alt", { name, day });
          const images = all.map((shot) => pictureOf(shot, title));
          openPicture(picture, moles, { images, title, changed });
        },
        "",
        { "aria-label": t("history.edit.openNamed", { name, day }) },
      ),
      button(
        t("history.delete"),
        () =>
          confirm(t(several ? "history.deleteSeveral" : "history.deletePicture", { name, day }), async () => {
            await deletePicture(picture);
            await show(place, t("history.deleted"));
          }),
        "",
        { "aria-label": t("history.deleteNamed", { name, day }) },
      ),
    );
  });
  return el(
    "section",
    { class: "card", "aria-label": name },
    el(
      "div",
      { class: "mole-head" },
      el("h2", {}, name),
      el("span", { class: "soft" }, t("history.count", { count: pictures.flatMap(shotsOf).length })),
    ),
    el("ul", { class: "dates" }, ...shots),
    el(
      "div",
      { class: "actions" },
      pictures.length > 1 &&
        button(t("history.compare"), () => compare(name, pictures, addressOf), "primary"),
      button(t("history.edit.rename"), () => renameMole(mole, changed)),
      last &&
        button(t("history.again"), () =>
          document.dispatchEvent(
            new CustomEvent("photograph", { detail: { ghost: addressOf(last), mole: mole.id } }),
          ),
        ),
    ),
  );
}

/** @param {HTMLElement} place @param {boolean} on */
function handling(place, on) {
  const accept = "application/zip,.zip,application/json,.json";
  const input = /** @type {HTMLInputElement} */ (el("input", { type: "file", id: "import", accept }));
  const said = el("p", { role: "status", class: "soft", id: "transfer-said" });
  input.addEventListener("change", async () => {
    const [file] = input.files ?? [];
    if (!file) return;
    said.textContent = t("history.importing");
    await show(place, await takeIn(file));
  });
  const exporting = button(t("history.export"), async () => {
    if (exporting.getAttribute("aria-disabled") === "true") return;
    exporting.setAttribute("aria-disabled", "true");
    said.textContent = t("history.exporting");
    said.textContent = await handOut().catch(() => t("history.notExported"));
    exporting.removeAttribute("aria-disabled");
  });
  const remove = async () => {
    await deleteAll();
    await show(place, t("history.allDeleted"));
  };
  return el(
    "section",
    { class: "card", "aria-label": t("history.handling") },
    el("h2", {}, t("history.handling")),
    el("p", { class: "soft" }, t("history.stays")),
    el(
      "div",
      { class: "actions" },
      on && exporting,
      el("label", { class: "button" }, input, el("span", {}, t("history.import"))),
      on && button(t("history.deleteAll"), () => confirm(t("history.deleteAllQuestion"), remove)),
    ),
    said,
  );
}

/** @param {(number | null)[]} days milliseconds since 1970, if known */
const daysOf = (days) =>
  days.map((at) => (at === null ? t("history.dayUnknown") : date(new Date(at), true))).join("; ");

/** Exports the whole history as a file. @returns {Promise<string>} the message to show */
async function handOut() {
  const { archive, count, left } = await toFile(await readAll());
  if (count === 0 && left.length > 0) throw new Error("no picture can be read");
  download(archive, "aiderm-history.zip");
  const words = [t("history.exported", { count, size: bytes(archive.size) })];
  if (left.length > 0) words.push(t("history.leftOut", { count: left.length, days: daysOf(left) }));
  return words.join(" ");
}

/**
 * Imports the intact content of a file.
 *
 * @param {File} file
 * @returns {Promise<string>} the message to show
 */
async function takeIn(file) {
  const content = await fromFile(file).catch(() => null);
  if (!content) return t("history.notImported");
  const { moles, pictures, damaged } = content;
  if (pictures.length === 0) return t("history.imported", { count: 0 });
  const total = pictures.flatMap(shotsOf).length;
  let count = 0;
  try {
    // one by one: if space runs out, the ones before are kept
    for (const picture of pictures) {
      await write({ moles: moles.filter(({ id }) => id === picture.mole), pictures: [picture] });
      count += shotsOf(picture).length;
    }
  } catch {
    return t("history.noSpace", { count, total });
  }
  const words = [t("history.imported", { count })];
  if (damaged.length > 0) {
    words.push(t("history.damaged", { count: damaged.length, days: daysOf(damaged) }));
  }
  return words.join(" ");
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

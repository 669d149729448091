// @ts-check
/** The card below an answer that saves the picture in the history on this device; off by default. */

import { assessmentOf } from "../check/state.js";
import { button, el, styleSheet } from "../dom.js";
import { t } from "../i18n.js";
import { shownOf } from "../intake/bitmap.js";
import { typeOf } from "../intake/types.js";
import { dayField, moleField, moleName, spotFields } from "./fields.js";
import { isOn, keepPicture, newId, readAll, turnOn } from "./store.js";

/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("../api.js").Assessment} Assessment */

/** @param {Item} item @param {"title" | "save" | "saved"} words */
const wordsFor = ({ others }, words) => t(`history.keep.${others.length > 0 ? `${words}Several` : words}`);

/** @param {Item} item */
const title = (item) => el("h2", { id: "keep-title" }, wordsFor(item, "title"));

/**
 * @param {HTMLElement} card to fill
 * @param {Item} item
 */
export async function keepCard(card, item) {
  try {
    await fillCard(card, item);
  } catch {
    card.replaceChildren(title(item), el("p", { class: "soft" }, t("history.blocked")));
  }
}

/** @param {HTMLElement} card @param {Item} item */
async function fillCard(card, item) {
  if (item.kept) {
    card.replaceChildren(title(item), el("p", {}, ...kept(item)));
    await offerComparison(card, item);
    return;
  }
  if (await isOn()) {
    await form(card, item);
    return;
  }
  const turn = async () => {
    await turnOn();
    await form(card, item);
    card.querySelector("select")?.focus();
  };
  const blocked = () => card.replaceChildren(title(item), el("p", { role: "alert" }, t("history.blocked")));
  card.replaceChildren(
    title(item),
    el("p", { class: "soft" }, t("history.keep.off")),
    el(
      "div",
      { class: "actions" },
      button(t("history.turnOn"), () => turn().catch(blocked)),
    ),
  );
}

/** The part of an answer that is kept besides its decision. @param {Assessment | null} assessment */
function observedOf(assessment) {
  if (!assessment?.lesion) return null;
  const { region, lesion, image } = assessment;
  const { width, height, pixel_spacing_mm } = image;
  return { region, lesion, image: { width, height, pixel_spacing_mm } };
}

/** All photographs of the answer, the item's own first. @param {Item} item @param {File} file */
function shotsOf({ digest, others, outlines, answer }, file) {
  const assessment = /** @type {Assessment} */ (answer?.assessment);
  const { together } = assessment;
  const shots = [{ file, digest }, ...others].map(async (photograph, at) => {
    const own = together ? /** @type {Assessment | null} */ (together.images[at].assessment) : assessment;
    const type = await typeOf(photograph.file); // by content, not as the browser declares it
    const picture = new Blob([photograph.file], { type }); // without its name
    return { picture, outline: outlines[photograph.digest] ?? null, observed: observedOf(own) };
  });
  return Promise.all(shots);
}

/** @param {Item} item */
const kept = (item) => [wordsFor(item, "saved"), " ", el("a", { href: "#history" }, t("history.keep.open"))];

/**
 * Offers a comparison if earlier pictures of the spot are kept too.
 *
 * @param {HTMLElement} card
 * @param {Item} item kept in the history
 */
async function offerComparison(card, item) {
  const all = await readAll();
  const mole = all.moles.find(({ id }) => id === item.mole);
  const pictures = all.pictures.filter((picture) => picture.mole === item.mole);
  if (!mole || new Set(pictures.map(({ takenAt }) => takenAt)).size < 2) return;
  const open = async () => {
    const [{ compare }] = await Promise.all([import("./compare.js"), styleSheet("views")]);
    const shown = await Promise.all(pictures.map(({ picture }) => shownOf(picture).catch(() => picture)));
    const addresses = new Map(pictures.map(({ id }, at) => [id, URL.createObjectURL(shown[at])]));
    const dialog = compare(moleName(mole), pictures, ({ id }) => addresses.get(id) ?? "");
    dialog.addEventListener("close", () => addresses.forEach((address) => URL.revokeObjectURL(address)));
  };
  const said = el("p", { role: "alert" });
  const failed = () => (said.textContent = t("common.viewFailed"));
  const start = button(t("compare.measure.withEarlier"), () => open().catch(failed), "primary");
  card.append(el("div", { class: "actions" }, start), said);
}

/** @param {HTMLElement} card @param {Item} item */
async function form(card, item) {
  const { moles } = await readAll();
  const which = moleField(moles, item.mole, true);
  const spot = spotFields();
  const day = dayField((item.answer?.at ?? new Date()).getTime());
  const choose = () => spot.fields.forEach((field) => (field.hidden = which.control.value !== ""));
  which.control.addEventListener("change", choose);
  choose();
  const said = el("p", { role: "status", class: "said" });
  const save = button(wordsFor(item, "save"), async () => {
    const { file } = item;
    const assessment = assessmentOf(item);
    if (!file || !assessment || save.getAttribute("aria-disabled") === "true") return;
    const takenAt = day.read();
    if (takenAt === null) return;
    save.setAttribute("aria-disabled", "true");
    const mole = moles.find(({ id }) => id === which.control.value) ?? {
      id: newId(),
      ...spot.read(),
      createdAt: Date.now(),
    };
    try {
      const [first, ...others] = await shotsOf(item, file);
      const { decision, model } = assessment;
      const entry = item.entry || newId();
      const facts = { id: entry, mole: mole.id, takenAt, decision, model: `${model.name} ${model.version}` };
      await keepPicture(mole, { ...facts, ...first, others });
      Object.assign(item, { entry, mole: mole.id, kept: true });
      document.dispatchEvent(new Event("kept"));
      card.querySelectorAll(".field").forEach((field) => field.remove());
      save.remove();
      said.replaceChildren(...kept(item));
      said.querySelector("a")?.focus();
      offerComparison(card, item).catch(() => {}); // it is kept all the same
    } catch {
      save.removeAttribute("aria-disabled");
      said.textContent = t("history.keep.failed");
    }
  });
  card.replaceChildren(
    title(item),
    el("p", { class: "soft" }, t("history.stays")),
    el("div", { class: "form" }, moles.length > 0 && which.field, ...spot.fields, day.field),
    el("div", { class: "actions" }, save),
    said,
  );
}

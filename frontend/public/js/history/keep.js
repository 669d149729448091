// @ts-check
/** The card below an answer that keeps the picture on this device: off until asked for. */

import { assessmentOf, correctedOf } from "../check/state.js";
import { button, el } from "../dom.js";
import { t } from "../i18n.js";
import { typeOf } from "../intake/types.js";
import { dayField, moleField, spotFields } from "./fields.js";
import { isOn, newId, readAll, turnOn, write } from "./store.js";

/** @typedef {import("../check/state.js").Item} Item */

const title = () => el("h2", { id: "keep-title" }, t("history.keep.title"));

/**
 * @param {HTMLElement} card that is filled
 * @param {Item} item
 */
export async function keepCard(card, item) {
  try {
    await fillCard(card, item);
  } catch {
    card.replaceChildren(title(), el("p", { class: "soft" }, t("history.blocked")));
  }
}

/** @param {HTMLElement} card @param {Item} item */
async function fillCard(card, item) {
  if (item.kept) {
    card.replaceChildren(title(), el("p", {}, ...kept()));
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
  const blocked = () => card.replaceChildren(title(), el("p", { role: "alert" }, t("history.blocked")));
  card.replaceChildren(
    title(),
    el("p", { class: "soft" }, t("history.keep.off")),
    el(
      "div",
      { class: "actions" },
      button(t("history.turnOn"), () => turn().catch(blocked)),
    ),
  );
}

/** What is kept of an answer beside its decision. @param {import("../api.js").Assessment} assessment */
function observedOf({ region, lesion, image: { width, height } }) {
  return lesion ? { region, lesion, image: { width, height } } : null;
}

const kept = () => [t("history.keep.saved"), " ", el("a", { href: "#history" }, t("history.keep.open"))];

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
  const save = button(t("history.keep.save"), async () => {
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
      const type = await typeOf(file); // whatever the browser took it for
      const picture = new Blob([file], { type }); // without its name
      const shot = { picture, outline: correctedOf(item), observed: observedOf(assessment) };
      const model = `${assessment.model.name} ${assessment.model.version}`;
      const entry = item.entry || newId();
      await write({
        moles: [mole],
        pictures: [{ id: entry, mole: mole.id, takenAt, decision: assessment.decision, model, ...shot }],
      });
      Object.assign(item, { entry, mole: mole.id, kept: true });
      document.dispatchEvent(new Event("kept"));
      card.querySelectorAll(".field").forEach((field) => field.remove());
      save.remove();
      said.replaceChildren(...kept());
      said.querySelector("a")?.focus();
    } catch {
      save.removeAttribute("aria-disabled");
      said.textContent = t("history.keep.failed");
    }
  });
  card.replaceChildren(
    title(),
    el("p", { class: "soft" }, t("history.stays")),
    el("div", { class: "form" }, moles.length > 0 && which.field, ...spot.fields, day.field),
    el("div", { class: "actions" }, save),
    said,
  );
}

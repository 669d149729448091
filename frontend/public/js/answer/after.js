// @ts-check
/** The cards below an answer: the self-check, keeping the picture on this device, the printed report. */

import { assessmentOf, correctedOf, urlOf } from "../check/state.js";
import { actionCard, button, el } from "../dom.js";
import { t } from "../i18n.js";
import { readerCard } from "../reader/settings.js";
import { selfCheck } from "./abcde.js";
import { paperReport } from "./report.js";

/** @typedef {import("../check/state.js").Item} Item */
/** @typedef {import("../check/state.js").Answer} Answer */

/** @param {Item} item @param {Answer["assessment"]} assessment @param {Answer} answer */
const paperOf = (item, assessment, { at }) =>
  paperReport({ assessment, url: urlOf(item), name: item.name, at, corrected: correctedOf(item) });

/** Redraws the report after the outline was corrected. @param {Item} item with an answer */
export function renewPaper(item) {
  const assessment = assessmentOf(item);
  if (assessment && item.answer)
    document.querySelector(".paper")?.replaceWith(paperOf(item, assessment, item.answer));
}

/**
 * Saves a corrected outline in the history too, if the item is kept there.
 * @param {Item} item
 */
export async function correctKept(item) {
  if (!item.kept) return;
  const { changeOutline } = await import("../history/store.js");
  await changeOutline(item.entry, item.photo, correctedOf(item));
}

/** @param {Item} item with an answer @returns {HTMLElement[]} */
export function cardsAfter(item) {
  const assessment = assessmentOf(item);
  if (!assessment || !item.answer) return [];
  const keeping = el("section", { class: "card keep", "aria-labelledby": "keep-title" });
  import("../history/keep.js").then(
    ({ keepCard }) => keepCard(keeping, item),
    () => keeping.remove(),
  );
  const paper = actionCard(
    {
      name: "paper-card",
      id: "paper-title",
      title: t("report.title"),
      lead: t("report.lead"),
      action: button(t("report.print"), () => window.print()),
    },
    paperOf(item, assessment, item.answer),
  );
  return [selfCheck(item.signs), keeping, paper, readerCard()];
}

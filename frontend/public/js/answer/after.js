// @ts-check
/** What follows an answer: the self-check, keeping the picture on this device, paper. */

import { button, el } from "../dom.js";
import { t } from "../i18n.js";
import { selfCheck } from "./abcde.js";
import { paperReport } from "./report.js";

/** @typedef {import("../intake/queue.js").Item} Item */

/** @param {Item} item with an answer @returns {HTMLElement[]} */
export function cardsAfter(item) {
  const { assessment, answeredAt, url } = item;
  if (!assessment) return [];
  const keeping = el("section", { class: "card keep", "aria-labelledby": "keep-title" });
  import("../history/keep.js").then(
    ({ keepCard }) => keepCard(keeping, item),
    () => keeping.remove(),
  );
  const paper = el(
    "section",
    { class: "card paper-card", "aria-labelledby": "paper-title" },
    el("h2", { id: "paper-title" }, t("report.title")),
    el("p", { class: "soft" }, t("report.lead")),
    el("div", { class: "actions" }, button(t("report.print"), () => window.print())),
    paperReport({ assessment, url, at: answeredAt ?? new Date() }),
  );
  return [selfCheck(), keeping, paper];
}

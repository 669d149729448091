// @ts-check
/**
 * The ABCDE self-check: what to look for in the spot itself, whatever the answer to a picture. It is neither
 * sent nor stored in the history.
 */

import { el } from "../dom.js";
import { t } from "../i18n.js";

const SIGNS = ["a", "b", "c", "d", "e"];

/** @param {Set<string>} ticked signs, updated here @returns {HTMLElement} a card */
export function selfCheck(ticked) {
  const advice = el("p", { class: "whatever", role: "status" }, t("safety.whatever"));
  const boxes = SIGNS.map((sign) => {
    const input = /** @type {HTMLInputElement} */ (
      el("input", { type: "checkbox", checked: ticked.has(sign) })
    );
    const words = el(
      "span",
      {},
      el("strong", {}, t(`abcde.${sign}.name`)),
      el("span", { class: "sign" }, t(`abcde.${sign}.text`)),
    );
    return { sign, input, row: el("label", { class: "switch abcde-row" }, input, words) };
  });
  const advise = () => {
    for (const { sign, input } of boxes) {
      if (input.checked) ticked.add(sign);
      else ticked.delete(sign);
    }
    const count = ticked.size;
    advice.textContent = count > 0 ? t("abcde.found", { count }) : t("safety.whatever");
  };
  for (const { input } of boxes) input.addEventListener("change", advise);
  advise();
  return el(
    "section",
    { class: "card abcde", "aria-labelledby": "abcde-title" },
    el("h2", { id: "abcde-title" }, t("abcde.title")),
    el("p", { class: "soft" }, t("abcde.lead")),
    el("div", { role: "group", "aria-labelledby": "abcde-title" }, ...boxes.map(({ row }) => row)),
    advice,
  );
}

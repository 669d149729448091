// @ts-check
/**
 * The server's texts in the page's language if the page knows their code, else in the server's English.
 */

import { el, foreign } from "../dom.js";
import { currentLanguage, has, inEnglish, t } from "../i18n.js";

/** @typedef {import("../api.js").Note} Note */
/** @typedef {import("../dom.js").Child} Child */

/** @param {string} section of the strings @param {Note} note @returns {Child} */
const note = (section, { code, text }) =>
  has(`${section}.${code}`) ? t(`${section}.${code}`) : foreign(text);

/** @param {Note} reason */
export function reasonWords(reason) {
  const metric = /^quality_(.+)$/.exec(reason.code)?.[1];
  if (metric && has(`quality.${metric}.name`))
    return t("reason.metric", { metric: t(`quality.${metric}.name`) });
  return note("reason", reason);
}

/** @param {Note} warning @returns {Child} */
export const warningWords = ({ code, text }) =>
  has(`quality.${code}.warning`) ? t(`quality.${code}.warning`) : foreign(text);

/** @param {{id: string, name: string}} label @returns {Child} */
export const className = ({ id, name }) => (has(`class.${id}`) ? t(`class.${id}`) : foreign(name));

/** @param {{id: string, name: string}} label */
export const classText = ({ id, name }) => (has(`class.${id}`) ? t(`class.${id}`) : name);

/**
 * Safety sentences in English, one tap away; nothing if the page is in English.
 *
 * @param {string[]} keys
 * @param {() => Record<string, string | number>} [values] for the {placeholders}, called in English
 */
export function englishToo(keys, values) {
  if (currentLanguage() === "en") return null;
  const lines = el("div", { lang: "en", dir: "ltr" });
  const details = el("details", { class: "english" }, el("summary", {}, t("translation.show")), lines);
  inEnglish(keys, values).then(
    (texts) => lines.replaceChildren(...texts.map((text) => el("p", {}, text))),
    () => details.remove(),
  );
  return details;
}

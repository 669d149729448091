// @ts-check
/** The privacy notice: what is sent, stored and logged, and what needs a secure connection. */

import { el, intro } from "../dom.js";
import { t, texts } from "../i18n.js";

/** @param {HTMLElement} place */
export function show(place) {
  const part = (/** @type {string} */ name) => [
    el("h2", {}, t(`privacy.${name}.title`)),
    el("ul", {}, ...texts(`privacy.${name}.text`).map((line) => el("li", {}, line))),
  ];
  place.append(
    intro(t("privacy.title"), t("privacy.lead")),
    el("div", { class: "card prose" }, ...["sent", "kept", "logged", "page"].flatMap(part)),
  );
  if (!window.isSecureContext) place.append(el("p", { class: "notice" }, t("privacy.insecure")));
}

// @ts-check
/** The choice of language, and the line that a translation was not medically reviewed, with the English sentences one tap away. */

import { el, find } from "./dom.js";
import { LANGUAGES, currentLanguage, directionOf, inEnglish, t, translate, useLanguage } from "./i18n.js";

const SAFETY = ["disclaimer.all", "safety.whatever", "safety.threshold", "verdict.suspicious.meaning", "verdict.low_suspicion.meaning", "verdict.uncertain.meaning", "verdict.rejected.meaning"];

/** Puts the loaded language on the page. */
async function apply() {
  const code = currentLanguage();
  document.documentElement.lang = code;
  document.documentElement.dir = directionOf(code);
  translate(document);
  const note = find("#translation", HTMLDetailsElement);
  note.hidden = code === "en";
  note.open = false;
  if (code !== "en") {
    const texts = await inEnglish(SAFETY).catch(() => []);
    find("#translation-english", HTMLElement).replaceChildren(...texts.map((text) => el("li", {}, text)));
  }
}

/** Fills the list of languages. Event out, at the document: `language` after a change. */
export async function startTranslation() {
  const select = find("#language", HTMLSelectElement);
  select.replaceChildren(
    ...Object.entries(LANGUAGES).map(([code, { name }]) => el("option", { value: code, lang: code, dir: directionOf(code) }, name)),
  );
  select.value = currentLanguage();
  select.addEventListener("change", async () => {
    await useLanguage(select.value);
    if (currentLanguage() !== select.value) find("#status", HTMLElement).textContent = t("translation.missing");
    select.value = currentLanguage();
    // the address carries the choice: nothing is stored, and a bookmark keeps it
    const address = new URL(location.href);
    address.searchParams.set("lang", select.value);
    history.replaceState(null, "", address);
    await apply();
    document.dispatchEvent(new Event("language"));
  });
  if (currentLanguage() !== "en") await apply();
}

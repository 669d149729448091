// @ts-check
/**
 * Starts the page: first what is needed to choose a picture in the reader's language, then everything else.
 * Also handles the choice of language, and the note that a translation was not medically reviewed, with the
 * English sentences one tap away.
 */

import { el, find } from "./dom.js";
import {
  LANGUAGES,
  currentLanguage,
  directionOf,
  inEnglish,
  preferredLanguage,
  t,
  tagOf,
  translate,
  useLanguage,
  useWords,
} from "./i18n.js";
import "./intake/picker.js";

const SAFETY = [
  "disclaimer.all",
  "safety.whatever",
  "safety.threshold",
  "verdict.suspicious.meaning",
  "verdict.low_suspicion.meaning",
  "verdict.uncertain.meaning",
  "verdict.rejected.meaning",
];

/** Applies the loaded language to the page. */
function apply() {
  const code = currentLanguage();
  document.documentElement.lang = tagOf(code);
  document.documentElement.dir = directionOf(code);
  translate(document);
  const note = find("#translation", HTMLDetailsElement);
  note.hidden = code === "en";
  note.open = false;
}

/** Shows the safety sentences in English, fetched on demand. */
async function showEnglish() {
  const list = find("#translation-english", HTMLElement);
  if (!find("#translation", HTMLDetailsElement).open || list.childElementCount > 0) return;
  await useWords("answer");
  list.replaceChildren(...(await inEnglish(SAFETY)).map((text) => el("li", {}, text)));
}

/** Fills the list of languages. Event on the document: `language` after a change. */
function startTranslation() {
  const select = find("#language", HTMLSelectElement);
  select.replaceChildren(
    ...Object.entries(LANGUAGES).map(([code, { name }]) =>
      el("option", { value: code, lang: tagOf(code), dir: directionOf(code) }, name),
    ),
  );
  select.value = currentLanguage();
  select.addEventListener("change", async () => {
    const chosen = select.value;
    await useLanguage(chosen);
    if (select.value !== chosen) return; // another was chosen in the meantime
    if (currentLanguage() !== chosen) find("#status", HTMLElement).textContent = t("translation.missing");
    select.value = currentLanguage();
    // the address carries the choice: nothing is stored, and a bookmark keeps it
    const address = new URL(location.href);
    address.searchParams.set("lang", select.value);
    history.replaceState(null, "", address);
    apply();
    document.dispatchEvent(new Event("language"));
  });
  find("#translation", HTMLDetailsElement).addEventListener("toggle", () => {
    showEnglish().catch(() => {}); // offline: the note is shown all the same
  });
  if (currentLanguage() !== "en") apply();
}

/** Starts what is not needed to choose a picture. */
async function startRest() {
  const [{ startCheck }, { DermService }, { startViews }] = await Promise.all([
    import("./check.js"),
    import("./service.js"),
    import("./views.js"),
  ]);
  const service = find("derm-service", DermService);
  service.addEventListener("state", (event) => {
    const { state, text } = /** @type {CustomEvent<{state: string, text: string}>} */ (event).detail;
    notice.hidden = state !== "unavailable";
    notice.textContent = state === "unavailable" ? `${text} ${t("service.meanwhile")}` : "";
  });
  service.refresh();
  startCheck(service);
  await startViews();
  document.documentElement.dataset.ready = "";
  performance.mark("complete");
}

const notice = find("#service-notice", HTMLElement);
const language = preferredLanguage();
const words = useLanguage(language);
// the markup is English; the picker holds chosen files until the check is loaded
if (language === "en") performance.mark("usable");
await words;
startTranslation();
if (language !== "en") performance.mark("usable");
try {
  await startRest();
} catch (error) {
  notice.hidden = false;
  notice.textContent = t("common.viewFailed");
  throw error;
}
// after everything that the first picture needs
setTimeout(() => import("./worker.js").then(({ startWorker }) => startWorker()), 300);

// @ts-check
/**
 * Shows every string in context, for reviewers: by screen, with the translators' note, in English and in the
 * language of the address (`?lang=`), styled as on the page and with example values.
 */

import { el, find } from "./dom.js";
import {
  LANGUAGES,
  directionOf,
  inEnglish,
  inLanguage,
  loadLanguage,
  preferredLanguage,
  t,
  tagOf,
  texts,
} from "./i18n.js";

/** The meaning of a {name} in a string. @typedef {{note: string, example: string | number}} Place */
/** @typedef {{look: string, note: string, places?: Record<string, Place>}} Note */
/** @typedef {{note: string, max?: number}} Look */
/**
 * @typedef {object} Notes
 * @property {Record<string, Look>} looks kinds of text, some with a maximum length in characters
 * @property {Record<string, Place>} places placeholders that mean the same in every string
 * @property {Record<string, string[]>} screens the key sections that each screen uses
 * @property {Record<string, Note>} notes by key
 */

const select = find("#language", HTMLSelectElement);
const query = find("#query", HTMLInputElement);
const screens = find("#screens", HTMLElement);

/** @returns {Promise<Notes>} */
async function fetchNotes() {
  const response = await fetch(new URL("../locales/notes/strings.json", import.meta.url));
  if (!response.ok) throw new Error(`locales/notes/strings.json: ${response.status}`);
  return response.json();
}

/** A number for each plural form of a language. @param {string} code @returns {Map<string, number>} */
function numbers(code) {
  const rules = new Intl.PluralRules(tagOf(code));
  /** @type {Map<string, number>} */
  const found = new Map();
  for (const count of [...Array(200).keys(), 1_000_000]) {
    const form = rules.select(count);
    if (!found.has(form) || (count === 1 && form === "one")) found.set(form, count);
  }
  return found;
}

/**
 * The placeholders of a string.
 *
 * @param {Notes} notes
 * @param {string} key
 * @returns {[string, Place][]}
 */
function placesOf(notes, key) {
  const own = Object.entries(notes.notes[key].places ?? {});
  const said = JSON.stringify(inLanguage("en", () => texts(key)));
  const common = Object.entries(notes.places).filter(
    ([name]) => said.includes(`{${name}}`) && !own.some(([named]) => named === name),
  );
  return [...own, ...common];
}

/**
 * A string in one language, as the page would show it.
 *
 * @param {Notes} notes
 * @param {string} key
 * @param {string} code
 */
function sample(notes, key, code) {
  const { look } = notes.notes[key];
  const values = Object.fromEntries(placesOf(notes, key).map(([name, { example }]) => [name, example]));
  const shown = (/** @type {string} */ text) => {
    const most = notes.looks[look].max;
    const over = most !== undefined && text.length > most;
    return el("p", { class: `as ${look === "button" ? "button" : `as-${look}`}`, "data-over": over }, text);
  };
  return inLanguage(code, () => {
    const value = /** @type {unknown} */ (texts(key));
    const cell = el("td", { lang: tagOf(code), dir: directionOf(code) });
    if (Array.isArray(value)) cell.append(...value.map(shown));
    else if (typeof value === "object")
      cell.append(...[...numbers(code).values()].map((count) => shown(t(key, { ...values, count }))));
    else cell.append(shown(t(key, values)));
    return cell;
  });
}

/** @param {Notes} notes @param {string} key @param {string} code */
function row(notes, key, code) {
  const { look, note } = notes.notes[key];
  const { max } = notes.looks[look];
  return el(
    "tr",
    { "data-key": key },
    el(
      "th",
      { scope: "row" },
      el("code", {}, key),
      el("p", {}, note),
      el("p", { class: "hint" }, max ? `${look}, at most ${max}` : look),
      ...placesOf(notes, key).map(([name, { note: meaning }]) =>
        el("p", { class: "hint" }, el("code", {}, `{${name}}`), ` ${meaning}`),
      ),
    ),
    sample(notes, key, "en"),
    code !== "en" && sample(notes, key, code),
  );
}

/** @param {Notes} notes @param {string} code */
function show(notes, code) {
  const keys = Object.keys(notes.notes);
  screens.replaceChildren(
    ...Object.entries(notes.screens).map(([name, sections]) =>
      el(
        "section",
        { class: "card" },
        el("h2", {}, name),
        el(
          "table",
          {},
          el(
            "tbody",
            {},
            ...sections
              .flatMap((section) => keys.filter((key) => key.startsWith(`${section}.`)))
              .map((key) => row(notes, key, code)),
          ),
        ),
      ),
    ),
  );
  search();
}

/** Shows only the rows that match the search. */
function search() {
  const wanted = query.value.trim().toLowerCase();
  let count = 0;
  for (const section of screens.children) {
    let here = 0;
    for (const line of section.querySelectorAll("tr")) {
      line.hidden = !line.textContent?.toLowerCase().includes(wanted);
      if (!line.hidden) here += 1;
    }
    /** @type {HTMLElement} */ (section).hidden = here === 0;
    count += here;
  }
  find("#found", HTMLElement).textContent = String(count);
}

/** @param {Notes} notes @param {string} code */
async function use(notes, code) {
  await Promise.all([loadLanguage(code, "answer"), loadLanguage(code, "more")]);
  await inEnglish([]);
  show(notes, code);
  document.documentElement.dataset.language = code;
}

try {
  const notes = await fetchNotes();
  select.append(
    ...Object.entries(LANGUAGES).map(([code, { name }]) =>
      el("option", { value: code, lang: tagOf(code), dir: directionOf(code) }, name),
    ),
  );
  select.value = preferredLanguage();
  select.addEventListener("change", async () => {
    const address = new URL(location.href);
    address.searchParams.set("lang", select.value);
    history.replaceState(null, "", address);
    await use(notes, select.value);
  });
  query.addEventListener("input", search);
  find("#search", HTMLFormElement).addEventListener("submit", (event) => event.preventDefault());
  await use(notes, select.value);
  document.documentElement.dataset.ready = "";
} catch (error) {
  find("#failed", HTMLElement).hidden = false;
  throw error;
}

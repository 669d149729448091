// @ts-check
/** Which languages there are, which of them is wanted, and where its strings come from. */

/** Each language by its own name, right-to-left ones marked. @type {Record<string, {name: string, rtl?: boolean}>} */
export const LANGUAGES = {
  en: { name: "English" },
  es: { name: "Español" },
  de: { name: "Deutsch" },
  ar: { name: "العربية", rtl: true },
};

/** @typedef {{[key: string]: string | string[] | Messages}} Messages */

const AGAIN_MS = 500;

/** The language in the address, else the first of the browser's that there is, else English. @param {string | null} [asked] */
export function preferredLanguage(asked = new URLSearchParams(location.search).get("lang")) {
  const wanted = [asked ?? "", ...navigator.languages].map((tag) => tag.toLowerCase().split("-")[0]);
  return wanted.find((code) => code in LANGUAGES) ?? "en";
}

/**
 * @param {string} name of a file in locales/
 * @returns {Promise<Messages>}
 */
export async function fetchMessages(name) {
  const address = new URL(`../locales/${name}.json`, import.meta.url);
  // once more: a phone that goes from one network to another ends what is under way, and without words there is no page
  const response = await fetch(address).catch(() => new Promise((resolve) => setTimeout(resolve, AGAIN_MS)).then(() => fetch(address)));
  if (!response.ok) throw new Error(`locales/${name}.json: ${response.status}`);
  return response.json();
}

// @ts-check
/**
 * The page's language: strings, plural forms, and number and date formats. All strings live in locales/.
 */

/**
 * Each language under its own name, right-to-left ones marked. The tag adds the script or region where a
 * language has several.
 * @type {Record<string, {name: string, tag?: string, rtl?: boolean}>}
 */
export const LANGUAGES = {
  en: { name: "English" },
  es: { name: "Español" },
  fr: { name: "Français" },
  pt: { name: "Português (Brasil)", tag: "pt-BR" },
  de: { name: "Deutsch" },
  ar: { name: "العربية", rtl: true },
  hi: { name: "हिन्दी" },
  zh: { name: "简体中文", tag: "zh-Hans" },
};

/** @typedef {{[key: string]: string | string[] | Messages}} Messages */

/** Strings that the first screen does not need, in folders of locales/: those used once a picture is chosen,
 * and those of rarely opened views (model, developers). @typedef {"answer" | "more"} Part */

/** The strings of each loaded language. @type {Map<string, Messages>} */
const loaded = new Map();
/** The request for each file of strings. @type {Map<string, Promise<Messages>>} */
const fetched = new Map();
/** @type {Set<Part>} */
const parts = new Set();
let language = "en";
/** The language requested last; it may still be loading. */
let wanted = language;
const AGAIN_MS = 500;

const messages = () => loaded.get(language) ?? {};

export const currentLanguage = () => language;

/** @param {string} code one of LANGUAGES */
export const directionOf = (code) => (LANGUAGES[code]?.rtl ? "rtl" : "ltr");

/** The BCP 47 tag, for `lang` attributes and Intl. @param {string} code one of LANGUAGES */
export const tagOf = (code) => LANGUAGES[code]?.tag ?? code;

/**
 * The language in the address, else the browser's first one that is available, else English.
 * @param {string | null} [asked]
 */
export function preferredLanguage(asked = new URLSearchParams(location.search).get("lang")) {
  const wanted = [asked ?? "", ...navigator.languages].map((tag) => tag.toLowerCase().split("-")[0]);
  return wanted.find((code) => code in LANGUAGES) ?? "en";
}

/**
 * @param {string} name of a file in locales/
 * @returns {Promise<Messages>}
 */
async function fetchMessages(name) {
  const address = new URL(`../locales/${name}.json`, import.meta.url);
  // retry once: a phone that changes networks aborts requests, and without strings there is no page
  const response = await fetch(address).catch(() =>
    new Promise((resolve) => setTimeout(resolve, AGAIN_MS)).then(() => fetch(address)),
  );
  if (!response.ok) throw new Error(`locales/${name}.json: ${response.status}`);
  return response.json();
}

/** @param {string} name of a file in locales/; fetched once, and again after a failure */
function fetchOnce(name) {
  const known = fetched.get(name);
  if (known) return known;
  const asked = fetchMessages(name);
  fetched.set(name, asked);
  asked.catch(() => fetched.delete(name));
  return asked;
}

/**
 * Loads a language without switching to it.
 *
 * @param {string} code one of LANGUAGES
 * @param {Part} [part] needed from now on, in every language
 */
export async function loadLanguage(code, part) {
  if (part) parts.add(part);
  const names = () => [code, ...[...parts].map((part) => `${part}/${code}`)];
  let files;
  do {
    files = await Promise.all(names().map(fetchOnce));
  } while (files.length < names().length); // another part was requested in the meantime
  loaded.set(code, Object.assign({}, ...files));
}

/**
 * Loads a language and switches to it, or to English if it cannot be loaded (offline). If another one is
 * requested in the meantime, that one wins.
 *
 * @param {string} code
 */
export async function useLanguage(code) {
  wanted = code;
  let spoken = code;
  try {
    await loadLanguage(code);
  } catch (error) {
    if (code === "en") throw error;
    spoken = "en";
    await loadLanguage(spoken);
  }
  if (wanted === code) language = spoken;
}

/** Adds strings that the first screen does not need. @param {Part} part */
export async function useWords(part) {
  let code;
  do {
    code = language;
    await loadLanguage(code, part);
  } while (code !== language); // the language was changed in the meantime
}

/**
 * Runs synchronous work in a loaded language and then restores the previous one, since elements in several
 * languages may be on one page.
 *
 * @template T
 * @param {string} code
 * @param {() => T} work
 * @returns {T}
 */
export function inLanguage(code, work) {
  const before = language;
  language = code;
  try {
    return work();
  } finally {
    language = before;
  }
}

/**
 * @param {Messages} from
 * @param {string} key dotted path
 */
function lookUp(from, key) {
  /** @type {any} */
  let value = from;
  for (const part of key.split(".")) value = value?.[part];
  return value;
}

/**
 * @param {any} value
 * @param {string} code
 * @param {Record<string, string | number>} values
 */
function fill(value, code, values) {
  const chosen =
    typeof value === "object"
      ? (value[new Intl.PluralRules(tagOf(code)).select(Number(values.count))] ?? value.other)
      : value;
  return String(chosen).replace(/\{(\w+)\}/g, (whole, name) => {
    const given = values[name];
    if (given === undefined) return whole;
    if (typeof given === "number") return new Intl.NumberFormat(tagOf(code)).format(given);
    // names and figures keep their direction and do not affect the text around (Unicode isolates)
    return LANGUAGES[code]?.rtl ? `\u2068${given}\u2069` : given;
  });
}

/** Whether there is such a string. @param {string} key */
export const has = (key) => lookUp(messages(), key) !== undefined;

/**
 * The string of this key, in the plural form for `count` if it has several. Numbers are formatted for the
 * language.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values] for the {placeholders} in it
 */
export function t(key, values = {}) {
  const value = lookUp(messages(), key);
  if (value === undefined) {
    console.error(`no string ${key} in ${language}`);
    return key;
  }
  return fill(value, language, values);
}

/** @param {string} key @returns {string[]} */
export const texts = (key) => lookUp(messages(), key) ?? [];

/**
 * The page's string for a text of the server, or the server's own words if there is none.
 * @param {string} key
 * @param {string} own
 */
export const textOr = (key, own) => (has(key) ? t(key) : own);

/**
 * Strings in English, whatever the language of the page.
 *
 * @param {string[]} keys
 * @param {() => Record<string, string | number>} [values] for the {placeholders} in them
 * @returns {Promise<string[]>}
 */
export async function inEnglish(keys, values = () => ({})) {
  await loadLanguage("en");
  return inLanguage("en", () => keys.map((key) => t(key, values())));
}

/**
 * Fills in markup: `data-t="key"` sets text, `data-t-attrs="name=key …"` sets attributes.
 * @param {ParentNode} root
 */
export function translate(root) {
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-t]"))) {
    element.textContent = t(element.dataset.t ?? "");
  }
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-t-attrs]"))) {
    for (const pair of (element.dataset.tAttrs ?? "").split(" ")) {
      const [name, key] = pair.split("=");
      element.setAttribute(name, t(key));
    }
  }
}

/**
 * @param {number} value 0..1
 * @param {number} [digits] decimal places; by default one below 10%, else none
 */
export function percent(value, digits = value < 0.0995 ? 1 : 0) {
  const write = (/** @type {number} */ share, /** @type {number} */ most) =>
    new Intl.NumberFormat(tagOf(language), { style: "percent", maximumFractionDigits: most }).format(share);
  if (value > 0 && value < 0.001) return t("number.below", { value: write(0.001, 1) });
  if (value < 1 && value > 0.995) return t("number.above", { value: write(0.99, 0) });
  return write(value, digits);
}

/** @param {number} value @param {number} [digits] significant ones */
export function number(value, digits = 4) {
  return new Intl.NumberFormat(tagOf(language), { maximumSignificantDigits: digits }).format(value);
}

/**
 * A figure between 0 and 1 with exactly three decimals, for tables.
 * @param {number} value
 */
export function figure(value) {
  return new Intl.NumberFormat(tagOf(language), {
    minimumFractionDigits: 3,
    maximumFractionDigits: 3,
  }).format(value);
}

/** @param {number} size */
export function bytes(size) {
  const write = (/** @type {number} */ value, /** @type {string} */ unit) =>
    new Intl.NumberFormat(tagOf(language), { style: "unit", unit, maximumFractionDigits: 1 }).format(value);
  if (size < 1_000_000) return write(Math.max(1, Math.round(size / 1000)), "kilobyte");
  // rounded up above a limit: "20 MB received, 20 MB allowed" would explain nothing
  return write(
    size > 20_000_000 ? Math.ceil(size / 100_000) / 10 : Math.round(size / 100_000) / 10,
    "megabyte",
  );
}

/** @param {Date} value @param {boolean} [withTime] */
export function date(value, withTime = false) {
  return new Intl.DateTimeFormat(tagOf(language), {
    dateStyle: "long",
    ...(withTime ? { timeStyle: "short" } : {}),
  }).format(value);
}

/** The share of malignant lesions that a probability assumes, in words. @param {number} prevalence */
export function outOfHundred(prevalence) {
  const inHundredths = Math.abs(Math.round(prevalence * 100) / 100 - prevalence) < 1e-6 && prevalence >= 0.01;
  const total = prevalence < 0.095 && !inHundredths ? 1000 : 100;
  const count = Math.max(1, Math.round(prevalence * total));
  return t(Math.abs(count / total - prevalence) < 1e-6 ? "number.share" : "number.shareAbout", {
    count,
    total,
  });
}

// @ts-check
/** Builds elements; text is inserted as text, never as markup. */

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] attributes; `on…` adds a listener; null, undefined and false
 *   omit one
 * @param {...(Child | Child[])} children
 * @returns {HTMLElement}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function")
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...(Node | string)} children
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * A decorative drawing: the text beside it says the same.
 *
 * @param {string} name CSS class
 * @param {string} viewBox
 * @param {...{d: string, filled?: boolean}} paths
 */
export function icon(name, viewBox, ...paths) {
  const drawn = paths.map(({ d, filled }) => svg("path", filled ? { d, class: "filled" } : { d }));
  return svg("svg", { class: name, viewBox, "aria-hidden": "true", focusable: "false" }, ...drawn);
}

/**
 * @param {string} text
 * @param {EventListener} onclick
 * @param {string} [kind] further classes
 * @param {Record<string, unknown>} [more] attributes
 */
export const button = (text, onclick, kind = "", more = {}) =>
  /** @type {HTMLButtonElement} */ (
    el("button", { type: "button", class: `button ${kind}`.trim(), onclick, ...more }, text)
  );

/** The head of a view. @param {string} title @param {string} lead what it is about */
export const intro = (title, lead) =>
  el("div", { class: "intro" }, el("h1", {}, title), el("p", { class: "lead" }, lead));

/**
 * A card with a title, a sentence and a button.
 *
 * @param {{name: string, id: string, title: string, lead: string, action: HTMLElement}} parts name: its class
 * @param {...HTMLElement} more what follows the button
 */
export const actionCard = ({ name, id, title, lead, action }, ...more) =>
  el(
    "section",
    { class: `card ${name}`, "aria-labelledby": id },
    el("h2", { id }, title),
    el("p", { class: "soft" }, lead),
    el("div", { class: "actions" }, action),
    ...more,
  );

/** Text of the server or the model card; both are in English. @param {string} text */
export const foreign = (text) => el("span", { lang: "en", dir: "auto" }, text);

/**
 * Sets numbers that a style sheet calculates with. Uses the CSSOM, as the Content Security Policy blocks
 * style attributes.
 *
 * @param {HTMLElement} element
 * @param {Record<string, number | string>} values
 */
export function setVars(element, values) {
  for (const [name, value] of Object.entries(values)) element.style.setProperty(`--${name}`, String(value));
}

/**
 * @template {HTMLElement} T
 * @param {string} selector
 * @param {new () => T} type
 * @returns {T}
 */
export function find(selector, type) {
  const element = document.querySelector(selector);
  if (!(element instanceof type)) throw new TypeError(`the page must hold ${selector}. Received: ${element}`);
  return element;
}

/** @type {Map<string, Promise<void>>} */
const sheets = new Map();

/**
 * Loads a sheet of css/ that the first screen does not need.
 *
 * @param {string} name
 * @returns {Promise<void>} once it applies; rejects if it cannot be loaded
 */
export function styleSheet(name) {
  const known = sheets.get(name);
  if (known) return known;
  const loading = new Promise((/** @type {(value?: void) => void} */ resolve, reject) => {
    const link = el("link", { rel: "stylesheet", href: new URL(`../css/${name}.css`, import.meta.url).href });
    link.addEventListener("load", () => resolve());
    link.addEventListener("error", () => {
      link.remove();
      sheets.delete(name);
      reject(new Error(`css/${name}.css could not be loaded`));
    });
    document.head.append(link);
  });
  sheets.set(name, loading);
  return loading;
}

/**
 * A modal dialog that is removed when it closes. Its first heading names it.
 *
 * @param {string} kind CSS class
 * @param {...(Child | Child[])} children
 * @returns {HTMLDialogElement} open; event: `close`
 */
export function openDialog(kind, ...children) {
  const dialog = /** @type {HTMLDialogElement} */ (el("dialog", { class: `dialog ${kind}` }, ...children));
  const heading = dialog.querySelector("h2");
  if (heading) {
    heading.id = `${kind}-title`;
    dialog.setAttribute("aria-labelledby", heading.id);
  }
  dialog.addEventListener("close", () => dialog.remove());
  // the disclaimer stays visible above it
  const disclaimer = document.querySelector(".disclaimer");
  if (disclaimer) {
    window.scrollBy({ top: Math.max(0, disclaimer.getBoundingClientRect().top), behavior: "instant" });
    setVars(dialog, { above: `${Math.ceil(disclaimer.getBoundingClientRect().bottom)}px` });
  }
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const href = URL.createObjectURL(blob);
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

// @ts-check
/** Building elements; text goes in as text, never as markup. */

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] `class`, `dataset`, or attributes; null, undefined and false leave one out
 * @param {...(Node | string | null)} children
 * @returns {HTMLElement}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * A drawing that says nothing which the text beside it does not say.
 *
 * @param {string} name CSS class
 * @param {string} viewBox
 * @param {...{d: string, filled?: boolean}} paths
 * @returns {SVGSVGElement}
 */
export function icon(name, viewBox, ...paths) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", name);
  svg.setAttribute("viewBox", viewBox);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  for (const { d, filled } of paths) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    if (filled) path.setAttribute("class", "filled");
    svg.append(path);
  }
  return svg;
}

/**
 * Numbers that a style sheet calculates with. Set through the CSSOM, which the page's security policy allows;
 * a style attribute it would refuse.
 *
 * @param {HTMLElement} element
 * @param {Record<string, number | string>} values
 */
export function setVars(element, values) {
  for (const [name, value] of Object.entries(values)) element.style.setProperty(`--${name}`, String(value));
}

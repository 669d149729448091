// @ts-check
/**
 * Renders a model card, which the trainer writes in Markdown, as elements: headings, paragraphs, lists,
 * tables, quotes, code, emphasis.
 */

import { el } from "../dom.js";

/** @param {string} text @returns {(Node | string)[]} */
function inline(text) {
  const parts = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|\[[^\]]+\]\([^)\s]+\)|<https?:[^>\s]+>)/);
  return parts.filter(Boolean).map((part) => {
    if (part.startsWith("`") && part.length > 2) return el("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 4) return el("strong", {}, part.slice(2, -2));
    if (/^\*[^*]+\*$/.test(part)) return el("em", {}, part.slice(1, -1));
    const link = /^\[([^\]]+)\]\((https:[^)\s]+)\)$/.exec(part);
    if (link) return el("a", { href: link[2], rel: "noreferrer" }, link[1]);
    // images and files beside the card are not served: only the link text stays
    return /^\[([^\]]+)\]\(/.exec(part)?.[1] ?? /^<(https?:.*)>$/.exec(part)?.[1] ?? part;
  });
}

/** @param {string} row */
const cells = (row) =>
  row
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());

/**
 * @param {string} source
 * @param {number} top level of the card's highest heading on the page
 * @returns {HTMLElement[]}
 */
export function render(source, top) {
  /** @type {HTMLElement[]} */
  const made = [];
  const lines = source.split("\n");
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    const heading = /^(#+)\s+(.*)$/.exec(line);
    const take = (/** @type {RegExp} */ kind) => {
      const from = at;
      while (at < lines.length && kind.test(lines[at])) at += 1;
      return lines.slice(from, at);
    };
    if (line.trim() === "") at += 1;
    else if (heading) {
      made.push(el(`h${Math.min(6, top - 1 + heading[1].length)}`, {}, ...inline(heading[2])));
      at += 1;
    } else if (line.startsWith("```")) {
      at += 1;
      const body = take(/^(?!```)/);
      at += 1;
      made.push(el("pre", {}, el("code", {}, body.join("\n"))));
    } else if (line.startsWith("|")) {
      const [head, , ...rows] = take(/^\|/);
      const body = rows.map((row) =>
        el("tr", {}, ...cells(row).map((cell) => el("td", {}, ...inline(cell)))),
      );
      const names = cells(head);
      made.push(
        el(
          "div",
          { class: "scroll", tabindex: 0, role: "region", "aria-label": names.filter(Boolean).join(", ") },
          el(
            "table",
            {},
            el(
              "thead",
              {},
              el(
                "tr",
                {},
                ...names.map((cell) => el(cell ? "th" : "td", cell ? { scope: "col" } : {}, ...inline(cell))),
              ),
            ),
            el("tbody", {}, ...body),
          ),
        ),
      );
    } else if (/^[-*] /.test(line)) {
      made.push(
        el(
          "ul",
          {},
          ...take(/^([-*] | {2,}\S)/).map((item) => el("li", {}, ...inline(item.replace(/^\s*[-*]? ?/, "")))),
        ),
      );
    } else if (line.startsWith(">")) {
      made.push(
        el(
          "blockquote",
          {},
          ...inline(
            take(/^>/)
              .map((quoted) => quoted.replace(/^> ?/, ""))
              .join(" "),
          ),
        ),
      );
    } else {
      const text = take(/^(?![#|>]|[-*] |```|\s*$)\S/).join(" ");
      if (text === "") at += 1; // a lone indented line
      made.push(el("p", {}, ...inline(text || line.trim())));
    }
  }
  return made;
}

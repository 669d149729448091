// @ts-check
/**
 * Shows the part of the page that the address' hash names: the check, or a view that is loaded on demand.
 */

import { button, el, find, styleSheet } from "./dom.js";
import { t, useWords } from "./i18n.js";

/**
 * @typedef {(place: HTMLElement) => void | Promise<void>} View fills a place, including its first heading of
 *   level 1
 */

/** @type {Record<string, () => Promise<{show: View}>>} */
const VIEWS = {
  history: () => import("./history/view.js"),
  model: () => import("./model/view.js"),
  integrate: () => import("./views/integrate.js"),
  privacy: () => import("./views/privacy.js"),
};

const nameOf = () => {
  const name = location.hash.slice(1).split("/")[0];
  return name in VIEWS ? name : "check";
};

export function startViews() {
  const check = find("#check", HTMLElement);
  const place = find("#view", HTMLElement);
  const main = find("#main", HTMLElement);
  let asked = 0;

  /** @param {boolean} moved whether the reader followed a link, so that the focus must follow */
  async function show(moved) {
    const name = nameOf();
    const turn = (asked += 1);
    main.dataset.view = name;
    check.hidden = name !== "check";
    place.hidden = name === "check";
    document.title = t(`title.${name}`);
    for (const link of document.querySelectorAll("nav a")) {
      if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (name !== "check") {
      place.className = `view view-${name}`;
      place.replaceChildren(el("p", { class: "soft" }, t("common.loading")));
      try {
        const [view] = await Promise.all([
          VIEWS[name](),
          useWords("answer"),
          styleSheet("result"),
          styleSheet("picture"),
          styleSheet("views"),
        ]);
        if (turn !== asked) return;
        place.replaceChildren();
        await view.show(place);
        import("./worker.js").then(({ keepTheRest }) => keepTheRest()).catch(() => {});
      } catch {
        if (turn !== asked) return;
        place.replaceChildren(
          el("h1", {}, t(`nav.${name}`)),
          el("p", { class: "notice" }, t("common.viewFailed")),
          el(
            "div",
            { class: "actions" },
            button(t("common.retry"), () => show(true)),
          ),
        );
      }
      if (turn !== asked) return;
    }
    if (!moved) return;
    window.scrollTo(0, 0);
    const heading = /** @type {HTMLElement | null} */ (
      (name === "check" ? check : place).querySelector("h1")
    );
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
  }

  window.addEventListener("hashchange", () => {
    // the skip link targets the current view, and the browser has moved the focus there
    if (location.hash !== "#main") show(true);
  });
  document.addEventListener("language", () => show(false));
  return show(false);
}

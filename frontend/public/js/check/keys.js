// @ts-check
/**
 * Keyboard shortcuts for clinicians. As they are single letters, they can be switched off, and are inactive
 * while a field or dialog has the focus (WCAG 2.1.4).
 */

import { chooseDepth, depthOf, otherDepth } from "../answer/depth.js";
import { button, el, openDialog } from "../dom.js";
import { t } from "../i18n.js";

/** @typedef {import("../intake/queue-list.js").DermQueue} DermQueue */
/** @typedef {{list: DermQueue, heatmap: import("../answer/heatmap.js").DermHeatmap}} Parts */
/** @typedef {{key: string, code: string, name: string, act: () => void}} Shortcut */

const KEY = "aiderm-keys";
const FIELDS = "input:not([type=checkbox], [type=radio]), select, textarea, [contenteditable]";

let off = false;
try {
  off = localStorage.getItem(KEY) === "off";
} catch {
  // the browser has no storage
}

/** @param {boolean} on stored in this browser if possible */
function turn(on) {
  off = !on;
  try {
    if (on) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, "off");
  } catch {
    // it applies to this visit
  }
}

/**
 * The shortcut of a key, by its character, or by its position, as on a keyboard for another script.
 *
 * @param {Shortcut[]} shortcuts
 * @param {KeyboardEvent} event
 */
function shortcutOf(shortcuts, { key, code }) {
  const written = shortcuts.find((shortcut) => shortcut.key === key.toLowerCase());
  if (written || /^[\x20-\x7e]$/.test(key)) return written;
  return shortcuts.find((shortcut) => shortcut.code === code);
}

/** @param {Shortcut[]} shortcuts */
function showList(shortcuts) {
  const on = /** @type {HTMLInputElement} */ (
    el("input", { type: "checkbox", id: "keys-on", checked: !off })
  );
  on.addEventListener("change", () => turn(on.checked));
  const arrows = { key: t("keys.arrows"), name: "pan" };
  const rows = [...shortcuts, arrows].map(({ key, name }) =>
    el("div", {}, el("dt", {}, el("kbd", {}, key.toUpperCase())), el("dd", {}, t(`keys.${name}`))),
  );
  const dialog = openDialog(
    "keys",
    el("h2", {}, t("keys.title")),
    el("p", { class: "soft" }, t("keys.lead")),
    el("dl", { class: "keys-list" }, ...rows),
    el("label", { class: "switch" }, on, el("span", {}, t("keys.on"))),
    el(
      "div",
      { class: "actions" },
      button(t("common.close"), () => dialog.close(), "primary"),
    ),
  );
}

/** Opens the card that keeps a picture, and moves the focus there. */
function toKeeping() {
  const opener = /** @type {HTMLElement | null} */ (
    document.querySelector(".tools-open[aria-expanded=false]")
  );
  opener?.click();
  const control = /** @type {HTMLElement | null} */ (document.querySelector(".keep :is(select, button, a)"));
  control?.focus();
}

/**
 * @param {import("./state.js").Queue} queue
 * @param {import("./view.js").CheckView} view whose parts are loaded
 * @param {Parts} parts
 * @returns {Shortcut[]}
 */
function shortcutsOf(queue, view, parts) {
  const go = (/** @type {number} */ step) => {
    const item = parts.list.beside(queue, step);
    if (!item) return;
    queue.select(item);
    view.showOutcome();
    view.sayAnswer(item);
  };
  const list = [
    { key: "n", code: "KeyN", name: "next", act: () => go(1) },
    { key: "b", code: "KeyB", name: "previous", act: () => go(-1) },
    { key: "h", code: "KeyH", name: "heat", act: () => parts.heatmap.turn() },
    { key: "c", code: "KeyC", name: "style", act: () => parts.heatmap.turnStyle() },
    { key: "o", code: "KeyO", name: "outline", act: () => parts.heatmap.outline.turn() },
    ...["+", "-", "0"].map((key) => ({
      key,
      code: "",
      name: /** @type {Record<string, string>} */ ({ "+": "in", "-": "out", 0: "whole" })[key],
      act: () => parts.heatmap.key(key),
    })),
    { key: "d", code: "KeyD", name: "depth", act: () => chooseDepth(otherDepth()) },
    { key: "k", code: "KeyK", name: "keep", act: toKeeping },
    { key: "p", code: "KeyP", name: "print", act: () => window.print() },
    { key: "?", code: "", name: "help", act: () => showList(list) },
  ];
  return list;
}

/**
 * @param {import("./state.js").Queue} queue
 * @param {import("./view.js").CheckView} view
 * @param {Parts} parts
 * @returns {() => void} shows the list of shortcuts
 */
export function startKeys(queue, view, parts) {
  const shortcuts = shortcutsOf(queue, view, parts);
  document.addEventListener("keydown", (event) => {
    if (off || depthOf() !== "clinical" || view.main.dataset.view !== "check" || queue.items.length === 0)
      return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.repeat) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest?.(FIELDS) || document.querySelector("dialog[open]")) return;
    const found = shortcutOf(shortcuts, event);
    found?.act();
    // arrows pan an enlarged picture, except in inputs, where they choose among options
    const arrow = /^Arrow|^=$/.test(event.key) && !target.closest?.("input");
    if (found || (arrow && parts.heatmap.key(event.key))) event.preventDefault();
  });
  return () => showList(shortcuts);
}

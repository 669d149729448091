// @ts-check
/** The second reader's settings: on or off, the reader's label, and the stored assessments. */

import { actionCard, button, download, el, openDialog } from "../dom.js";
import { percent, t } from "../i18n.js";
import { table } from "../tables.js";
import { chooseReader, readerLabel } from "./mode.js";
import { readings, remove, removeAll, toCsv } from "./store.js";

/** @typedef {import("./store.js").Said} Said */

const FIRST_LABEL = "1";

/** The card that opens the settings, among the clinicians' tools. */
export const readerCard = () =>
  actionCard({
    name: "reader-card",
    id: "reader-card-title",
    title: t("reader.title"),
    lead: t("reader.about"),
    action: button(t("reader.settings"), () => showReaderSettings()),
  });

/** @param {Said | null} said */
const words = (said) => (said ? `${t(`reader.${said.decision}`)}, ${percent(said.confidence)}` : "–");

/** Shows the dialog. */
export function showReaderSettings() {
  const label = /** @type {HTMLInputElement} */ (
    el("input", { type: "text", maxlength: 30, autocomplete: "off", value: readerLabel() ?? FIRST_LABEL })
  );
  const on = /** @type {HTMLInputElement} */ (
    el("input", { type: "checkbox", id: "reader-on", checked: readerLabel() !== null })
  );
  const choose = () => chooseReader(on.checked ? label.value.trim() || FIRST_LABEL : null);
  on.addEventListener("change", choose);
  label.addEventListener("change", () => on.checked && choose());
  const kept = el("div", { class: "stack" });
  const fill = () =>
    fillKept(kept).catch(() => kept.replaceChildren(el("p", { role: "alert" }, t("reader.failed"))));
  fill();
  const dialog = openDialog(
    "reader-settings",
    el("h2", {}, t("reader.title")),
    el("p", { class: "soft" }, t("reader.about")),
    el("label", { class: "switch" }, on, el("span", {}, t("reader.on"))),
    el("label", { class: "field" }, t("reader.label"), label),
    kept,
    el(
      "div",
      { class: "actions" },
      button(t("common.close"), () => dialog.close(), "primary"),
    ),
  );
}

/** @param {HTMLElement} kept */
async function fillKept(kept) {
  const all = await readings();
  const complete = all.filter(({ after }) => after).length;
  const counted = el("p", { role: "status" }, t("reader.complete", { count: complete, total: all.length }));
  const after = (/** @type {Promise<unknown>} */ work) =>
    work
      .then(() => fillKept(kept))
      .then(() => /** @type {HTMLElement | null} */ (kept.querySelector("p"))?.focus());
  counted.tabIndex = -1;
  kept.replaceChildren(counted);
  if (all.length === 0) return;
  const rows = all.map(({ id, case: name, before, after: last }) => [
    el("bdi", {}, name),
    words(before),
    words(last),
    button(t("reader.delete"), () => after(remove(id)), "plain", {
      "aria-label": t("reader.deleteNamed", { name }),
    }),
  ]);
  const save = () => download(new Blob([toCsv(all)], { type: "text/csv" }), "second-reader.csv");
  kept.append(
    table(
      t("reader.list"),
      [t("reader.case"), t("reader.first"), t("reader.then"), null],
      /** @type {[Node, ...(Node | string)[]][]} */ (rows),
    ),
    el(
      "div",
      { class: "actions" },
      complete > 0 && button(t("results.save", { format: "CSV" }), save),
      button(t("reader.deleteAll"), () => after(removeAll())),
    ),
  );
}

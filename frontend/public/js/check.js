// @ts-check
/** The course of a check: choose, look, send, answer. What is seen is that of the selected picture; its state is `data-state` of <main>. */

import { Problem, predict } from "./api.js";
import { el, find, styleSheet } from "./dom.js";
import { bytes, t } from "./i18n.js";
import { isReadable, prepare } from "./intake/files.js";
import { DermPicker } from "./intake/picker.js";
import { Queue } from "./intake/queue.js";

/** @typedef {import("./intake/queue.js").Item} Item */

const looksOfPictures = () => Promise.all([styleSheet("picture"), styleSheet("result")]);

/** All that shows a picture and its answer; not needed before the first picture. */
const loadParts = async () => {
  const [{ DermVerdict }, { DermFindings }, { DermHeatmap }, { DermProblem, mayRetry }, { DermQueue }, { concerns, look }, after] = await Promise.all([
    import("./answer/verdict.js"),
    import("./answer/findings.js"),
    import("./answer/heatmap.js"),
    import("./answer/problem-view.js"),
    import("./intake/queue-list.js"),
    import("./intake/looks.js"),
    import("./answer/after.js"),
    looksOfPictures(),
  ]);
  const parts = {
    verdict: find("derm-verdict", DermVerdict),
    findings: find("derm-findings", DermFindings),
    view: find("derm-heatmap", DermHeatmap),
    problemView: find("derm-problem", DermProblem),
    list: find("derm-queue", DermQueue),
    mayRetry, concerns, look, after,
  };
  return parts;
};

/** Wires the check view of the page. @param {import("./service.js").DermService} service */
export function startCheck(service) {
  const main = find("#main", HTMLElement);
  const outcome = find("#outcome", HTMLElement);
  const picker = find("derm-picker", DermPicker);
  const progress = find("#progress", HTMLElement);
  const progressBar = find("#progress-bar", HTMLProgressElement);
  const progressText = find("#progress-text", HTMLElement);
  const actions = find("#actions", HTMLElement);
  const concernsBox = find("#concerns", HTMLElement);
  const assess = find("#assess", HTMLButtonElement);
  const assessAll = find("#assess-all", HTMLButtonElement);
  const editing = find("#edit", HTMLButtonElement);
  const another = find("#another", HTMLButtonElement);
  const cancel = find("#cancel", HTMLButtonElement);
  const camera = find("#camera", HTMLButtonElement);
  const status = find("#status", HTMLElement);
  const afterBox = find("#after", HTMLElement);

  const queue = new Queue();
  /** @type {Awaited<ReturnType<typeof loadParts>> | null} */
  let parts = null;
  /** @type {Promise<Awaited<ReturnType<typeof loadParts>>> | null} */
  let loading = null;
  /** A refusal that belongs to no picture. @type {Problem | null} */
  let refusal = null;
  /** @type {AbortController | null} */
  let running = null;
  /** What is on the page, so that a step of the progress builds nothing anew. @type {unknown[]} */
  let shown = [];

  const load = () => {
    loading ??= loadParts();
    return loading.then((loaded) => {
      if (!parts) {
        parts = loaded;
        parts.problemView.addEventListener("retry", () => queue.selected && run([queue.selected]));
        parts.list.addEventListener("select", (event) => queue.select(itemOf(event)));
        parts.list.addEventListener("remove", (event) => remove(itemOf(event)));
        import("./worker.js").then(({ keepTheRest }) => keepTheRest()).catch(() => {});
      }
      return parts;
    }, (error) => {
      loading = null;
      throw error;
    });
  };
  const say = (/** @type {string} */ words) => (status.textContent = words);
  const itemOf = (/** @type {Event} */ event) => /** @type {CustomEvent<{item: Item}>} */ (event).detail.item;
  /** As when the connection broke just now. */
  const sayNotLoaded = () => {
    const notice = find("#service-notice", HTMLElement);
    notice.textContent = t("common.viewFailed");
    notice.hidden = false;
    say(t("common.viewFailed"));
  };
  const nameOf = (/** @type {Item} */ { name }) => name || t("queue.unnamed");

  function render() {
    const item = queue.selected;
    const problem = item ? item.problem : refusal;
    const assessment = item?.assessment ?? null;
    const state = item ? { refused: "problem", waiting: "ready" }[/** @type {string} */ (item.state)] ?? item.state : problem ? "problem" : "empty";
    main.dataset.state = state;
    main.toggleAttribute("data-several", queue.items.length > 1);
    const hasFile = Boolean(item?.file);
    picker.hidden = hasFile || queue.items.length > 1;
    progress.hidden = state !== "sending";
    actions.hidden = queue.items.length === 0 || picker.hidden === false || state === "sending";
    assess.hidden = item?.state !== "ready";
    const left = queue.sendable.length;
    assessAll.hidden = running !== null || left === 0 || (left === 1 && item?.state === "ready");
    assessAll.textContent = t("check.assessAll", { count: left });
    editing.hidden = !hasFile || !item?.viewable || item.state === "waiting";
    another.classList.toggle("primary", state === "result" || (state === "problem" && !(problem && parts?.mayRetry(problem))));
    outcome.hidden = !assessment && !problem;
    concernsBox.hidden = state !== "ready" || !item?.concerns.length;
    if (item && state === "sending") {
      progressText.textContent = t(item.share < 1 ? "check.sending" : "check.judging");
      if (item.share < 1) progressBar.value = Math.round(item.share * 100);
      else progressBar.removeAttribute("value"); // how long the judging takes is not known
    }
    if (!parts) return;
    parts.list.show(queue);
    const now = [item, item?.url, assessment, problem, item?.concerns, item?.viewable];
    if (now.length === shown.length && now.every((value, index) => value === shown[index])) return;
    shown = now;
    parts.view.hidden = !hasFile || (problem !== null && !item?.viewable); // nothing to look at, and nothing that could be judged
    parts.view.show({ src: item?.url ?? "", alt: item ? t("check.chosen", { name: nameOf(item) }) : "", assessment });
    parts.verdict.assessment = assessment;
    parts.findings.assessment = assessment;
    parts.problemView.problem = problem;
    concernsBox.replaceChildren(...(item?.concerns ?? []).map((concern) => el("p", {}, t(`concern.${concern}`))));
    afterBox.replaceChildren(...(item && assessment ? parts.after.cardsAfter(item) : []));
  }

  /** @param {File[]} files @param {string | null} [mole] of the history, that these show */
  async function add(files, mole = null) {
    const { concerns, look } = await load();
    refusal = null;
    // a single answered picture makes room; several stay beside the new ones
    const before = queue.items.length === 1 && ["result", "problem", "refused", "ready"].includes(queue.items[0].state) && files.length === 1 ? queue.items[0] : null;
    /** @type {Item[]} */
    const added = [];
    for (const file of files) {
      try {
        added.push(queue.add(file, { file: await prepare(file), mole }));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        added.push(queue.add(file, { problem: error }));
      }
    }
    if (before) queue.remove(before);
    const first = added.find(({ state }) => state === "ready") ?? added[0];
    queue.select(first);
    if (first.problem) {
      say("");
      parts?.problemView.focusHeading();
    } else {
      say(added.length > 1 ? t("check.saidSeveral", { count: added.length }) : t("check.said", { name: nameOf(first), size: bytes(first.source.size) }));
      (assessAll.hidden || added.length === 1 ? assess : assessAll).focus();
    }
    for (const item of added) if (item.file) await lookAt(item, concerns, look);
  }

  /**
   * @param {Item} item
   * @param {typeof import("./intake/looks.js").concerns} concerns
   * @param {typeof import("./intake/looks.js").look} look
   */
  async function lookAt(item, concerns, look) {
    const file = item.file;
    const bitmap = file && (await createImageBitmap(file).catch(() => null));
    if (!bitmap) return; // the browser cannot show it; the server may be able to
    const found = concerns(look(bitmap, bitmap.width, bitmap.height));
    bitmap.close();
    if (item.file !== file) return;
    queue.update(item, { viewable: true, concerns: found });
    if (item === queue.selected && item.state === "ready" && found.length > 0) say([status.textContent, ...found.map((concern) => t(`concern.${concern}`))].join(" "));
  }

  /** @param {Item} item */
  function remove(item) {
    if (item.state === "sending") running?.abort();
    queue.remove(item);
    say(t("queue.removed", { name: nameOf(item) }));
    if (queue.selected) parts?.list.focusCurrent();
    else picker.querySelector("input")?.focus();
  }

  /** Sends one after another; the first that fails ends the run. @param {Item[]} items */
  async function run(items) {
    if (running) return;
    const controller = new AbortController();
    running = controller;
    for (const item of items) queue.update(item, { state: "waiting", problem: null });
    if (items.length > 1) queue.select(items[0]);
    for (const [index, item] of items.entries()) {
      if (!queue.items.includes(item)) continue;
      if (items.length > 1 && queue.selected === items[index - 1]) queue.select(item); // those who watch go along
      const done = await send(item, controller);
      if (!done) break;
      if (items.length > 1) say(t("check.saidProgress", { done: index + 1, total: items.length }));
    }
    running = null;
    for (const item of items) if (item.state === "waiting") queue.update(item, { state: "ready" });
    render();
  }

  /**
   * @param {Item} item
   * @param {AbortController} controller
   * @returns {Promise<boolean>} whether the next may follow
   */
  async function send(item, controller) {
    const { file } = item;
    if (!file) return true;
    queue.update(item, { state: "sending", share: 0 });
    say(t("check.sending"));
    if (item === queue.selected) cancel.focus();
    try {
      const assessment = await predict(file, {
        signal: controller.signal,
        onProgress: (share) => queue.update(item, { share }),
      });
      if (item === queue.selected) say("");
      queue.update(item, { state: "result", assessment, answeredAt: new Date() });
      if (item === queue.selected) parts?.verdict.focusHeading();
      if (service.getAttribute("state") === "unavailable") service.refresh(); // it has just answered
      return true;
    } catch (error) {
      // a file that is gone fails as a network does
      const gone = error instanceof Problem && error.code === "network" && !(await isReadable(file));
      const cause = gone ? new Problem("unreadable_file") : error;
      if (!(cause instanceof Problem)) {
        queue.update(item, { state: "ready" });
        if (item === queue.selected) assess.focus();
        say(t("check.cancelled"));
        return false;
      }
      say("");
      queue.update(item, { state: "problem", problem: cause });
      if (queue.items.includes(item)) queue.select(item);
      parts?.problemView.focusHeading();
      if (cause.code === "network" || cause.status >= 500) service.refresh();
      return false;
    }
  }

  queue.addEventListener("change", render);
  document.addEventListener("language", () => {
    shown = [];
    render();
  });
  picker.addEventListener("files", (event) => {
    if (location.hash && location.hash !== "#check") location.hash = "check";
    add(/** @type {CustomEvent<{files: File[]}>} */ (event).detail.files).catch(sayNotLoaded);
  });
  picker.addEventListener("refused", async (event) => {
    const { code } = /** @type {CustomEvent<{code: string}>} */ (event).detail;
    if (queue.items.length > 0) return; // text pasted by mistake takes no picture away
    try {
      await load();
    } catch {
      sayNotLoaded();
      return;
    }
    refusal = new Problem(code);
    say("");
    render();
    parts?.problemView.focusHeading();
  });
  assess.addEventListener("click", () => queue.selected && run([queue.selected]));
  assessAll.addEventListener("click", () => run(queue.sendable));
  cancel.addEventListener("click", () => running?.abort());
  another.addEventListener("click", () => picker.open());
  const openCamera = async (/** @type {{ghost?: string}} */ options) => {
    const [{ photograph }] = await Promise.all([import("./intake/camera.js"), looksOfPictures()]);
    return photograph(options);
  };
  camera.addEventListener("click", async () => {
    try {
      const file = await openCamera({});
      if (file) await add([file]);
    } catch {
      sayNotLoaded();
    }
  });
  editing.addEventListener("click", async () => {
    const item = queue.selected;
    if (!item?.base) return;
    const editor = await import("./intake/editor.js").catch(sayNotLoaded);
    if (!editor) return;
    const changed = await editor.edit(item.base);
    if (!changed) return editing.focus();
    queue.update(item, { file: changed, state: "ready", assessment: null, problem: null, concerns: [], kept: false });
    assess.focus();
    say(t("editor.done"));
    const { concerns, look } = await load();
    await lookAt(item, concerns, look);
  });
  // A picture of the history is photographed anew: it comes in here.
  document.addEventListener("photograph", async (event) => {
    const { ghost, mole } = /** @type {CustomEvent<{ghost: string, mole: string}>} */ (event).detail;
    try {
      const file = await openCamera({ ghost });
      if (!file) return;
      location.hash = "check";
      await add([file], mole);
    } catch {
      location.hash = "check"; // where it is said
      sayNotLoaded();
    }
  });
  render();
  picker.start();
}

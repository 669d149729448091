// @ts-check
/** Runs a check: choose, look, send, answer. Connects state, view and sending. */

import { Problem } from "./api.js";
import { Adding } from "./check/adding.js";
import { startSamples } from "./check/samples.js";
import { Sending } from "./check/sending.js";
import { Queue } from "./check/state.js";
import { CheckView } from "./check/view.js";
import { t } from "./i18n.js";

/** @typedef {import("./check/state.js").Item} Item */

/** @template T @param {Event} event @returns {T} */
const detailOf = (event) => /** @type {CustomEvent<T>} */ (event).detail;

/** Wires the check view of the page. @param {import("./service.js").DermService} service */
export function startCheck(service) {
  const queue = new Queue();
  const sending = new Sending(queue);
  const view = new CheckView(queue, sending);
  const adding = new Adding(queue, sending, view);
  const orSay = (/** @type {Promise<unknown>} */ work) => work.catch(() => view.sayNotLoaded());

  queue.addEventListener("change", () => view.render());
  sending.addEventListener("progress", () => view.render());
  document.addEventListener("language", () => view.renderAll());
  startAnswers(queue, sending, view, service);

  const { picker } = view;
  picker.addEventListener("files", (event) => {
    if (location.hash && location.hash !== "#check") location.hash = "check";
    orSay(start().then(() => adding.add(detailOf(event).files)));
  });
  picker.addEventListener("refused", (event) => {
    if (queue.items.length > 0) return; // text pasted by mistake must not remove pictures
    orSay(start().then(() => refuse(view, detailOf(event).code)));
  });
  startFromHistory(adding, view, start);
  const run = (/** @type {Item[]} */ items) => {
    sending.start(items);
    if (items.length > 0) view.focusCancel();
  };
  view.assess.addEventListener("click", () => queue.selected?.state === "ready" && run([queue.selected]));
  view.cancel.addEventListener("click", () => sending.cancel());
  view.another.addEventListener("click", () => picker.open());
  view.restart.addEventListener("click", () => adding.removeAll());
  view.editing.addEventListener("click", () => queue.selected && orSay(adding.edit(queue.selected)));
  for (const camera of [view.camera, view.cameraAgain]) {
    camera.addEventListener("click", () => orSay(start().then(() => adding.photograph({}))));
  }

  const keeping = keepsOf(queue, sending, view);
  let started = false;
  /** Loads the parts that show pictures and listens to their events. */
  async function start() {
    const { problemView, list } = await view.load();
    if (started) return;
    started = true;
    const itemOf = (/** @type {Event} */ event) => /** @type {Item} */ (detailOf(event).item);
    problemView.canShrink = true;
    problemView.addEventListener("shrink", () => queue.selected && orSay(adding.shrink(queue.selected)));
    problemView.addEventListener("retry", () => queue.selected && run([queue.selected]));
    list.addEventListener("select", (event) => {
      queue.select(itemOf(event));
      view.showOutcome();
    });
    list.addEventListener("remove", (event) => adding.remove(itemOf(event)));
    list.addEventListener("assess-all", () => run(queue.sendable));
    list.addEventListener("cancel-run", () => sending.cancel());
    list.addEventListener("remove-all", () => adding.removeAll());
    list.addEventListener("table", () => orSay(showTable()));
    startReader(queue, sending, view);
    startSpot(queue, view, run);
    import("./worker.js").then(({ keepTheRest }) => keepTheRest()).catch(() => {});
    await keeping();
  }
  async function showTable() {
    const results = await import("./results/table.js");
    results.showTable(queue.items, (item) => {
      queue.select(item);
      view.showOutcome();
    });
  }
  const trySample = async (/** @type {File} */ file) => {
    await start();
    await adding.add([file]);
    if (queue.selected?.state === "ready") run([queue.selected]);
  };
  startSamples(trySample, () => view.sayNotLoaded());
  window.addEventListener("beforeunload", (event) => {
    if (sending.running || (queue.items.length > 1 && queue.sendable.length > 0)) event.preventDefault();
  });
  view.render();
  picker.start();
  dropOld().catch(() => {});
  if (hasKept()) orSay(restore({ queue, sending, view, adding, start, keeping }));
}

/**
 * Handles several photographs of one spot, which get one answer.
 *
 * @param {Queue} queue
 * @param {CheckView} view whose parts are loaded
 * @param {(items: Item[]) => void} run
 */
function startSpot(queue, view, run) {
  const { parts } = view;
  if (!parts) return;
  parts.spot.addEventListener("photo", (event) => {
    const { item, photo } = /** @type {{item: Item, photo: number}} */ (detailOf(event));
    queue.showPhoto(item, photo);
  });
  parts.spot.addEventListener("others", (event) => {
    const { item, others } = /** @type {{item: Item, others: Item["others"]}} */ (detailOf(event));
    queue.setOthers(item, others);
    run([item]);
  });
  view.addPhotograph.addEventListener("click", () => {
    const item = queue.selected;
    if (item) parts.spot.add(item).catch(() => view.sayNotLoaded());
  });
}

/**
 * Handles second-reader mode: an answer is shown only after the reader has committed to an assessment.
 *
 * @param {Queue} queue
 * @param {Sending} sending
 * @param {CheckView} view whose parts are loaded
 */
function startReader(queue, sending, view) {
  const { parts } = view;
  if (!parts) return;
  sending.seals = () => parts.readerLabel() !== null;
  parts.reader.addEventListener("commit", (event) => {
    const { item, reading } = /** @type {{item: Item, reading: Item["reading"]}} */ (detailOf(event));
    if (reading?.after) {
      queue.update(item, { reading });
      view.focusHeading(parts.reader);
    } else {
      queue.unseal(item, reading);
      view.focusOutcome();
    }
  });
  document.addEventListener("reader", () => {
    if (sending.seals()) return;
    for (const item of queue.items) if (item.sealed) queue.unseal(item, null);
  });
}

/**
 * Returns a function that loads `Kept`, which preserves the queue across reloads; null if that is impossible.
 *
 * @param {Queue} queue
 * @param {Sending} sending
 * @param {CheckView} view
 */
function keepsOf(queue, sending, view) {
  /** @type {Promise<import("./check/kept.js").Kept | null> | null} */
  let kept = null;
  return () => {
    kept ??= import("./check/kept.js").then(
      ({ Kept }) => {
        view.keeps = Kept.possible;
        return view.keeps ? new Kept(queue, sending, () => view.keepNothing()) : null;
      },
      () => null, // everything else works without
    );
    return kept;
  };
}

/**
 * Restores the queue after a reload; what was being sent is sent again.
 *
 * @param {{queue: Queue, sending: Sending, view: CheckView, adding: Adding, start: () => Promise<void>,
 *   keeping: ReturnType<typeof keepsOf>}} parts
 */
async function restore({ queue, sending, view, adding, start, keeping }) {
  await start();
  const before = await (await keeping())?.restored;
  if (!before) return;
  view.renderAll();
  view.say(t("check.restored"));
  for (const item of queue.items) adding.show(item).catch(() => {});
  if (before.running) sending.start(queue.sendable);
}

/** Deletes what closed tabs left more than a day ago. Loads nothing if there is nothing, as is usual. */
async function dropOld() {
  const databases = (await window.indexedDB?.databases?.()) ?? [];
  if (!databases.some(({ name }) => name === "aiderm-queue")) return;
  await (await import("./check/kept.js")).dropOld();
}

/** Whether this tab had pictures before. */
function hasKept() {
  try {
    return sessionStorage.getItem("aiderm-tab") !== null;
  } catch {
    return false;
  }
}

/**
 * Handles requests from the history: photograph a spot anew, or assess its pictures again.
 *
 * @param {Adding} adding
 * @param {CheckView} view
 * @param {() => Promise<void>} start
 */
function startFromHistory(adding, view, start) {
  document.addEventListener("photograph", (event) => {
    const { ghost, mole } = /** @type {CustomEvent<{ghost: string, mole: string}>} */ (event).detail;
    adding.photograph({ ghost }, mole).catch(() => {
      location.hash = "check"; // where the message is shown
      view.sayNotLoaded();
    });
  });
  document.addEventListener("recheck", (event) => {
    const { files, mole } = /** @type {CustomEvent<{files: File[], mole: string}>} */ (event).detail;
    location.hash = "check";
    start()
      .then(() => adding.again(files, mole))
      .catch(() => view.sayNotLoaded());
  });
}

/** @param {CheckView} view @param {string} code */
function refuse(view, code) {
  view.refusal = new Problem(code);
  view.say("");
  view.render();
  view.parts?.problemView.focusHeading();
}

/**
 * Shows and announces answers as they come in. A run of several moves the focus once, at its end.
 *
 * @param {Queue} queue
 * @param {Sending} sending
 * @param {CheckView} view
 * @param {import("./service.js").DermService} service
 */
function startAnswers(queue, sending, view, service) {
  sending.addEventListener("answered", (event) => {
    const { item, alone } = /** @type {{item: Item, alone: boolean}} */ (detailOf(event));
    if (service.getAttribute("state") === "unavailable") service.refresh(); // it has just responded
    if (!alone) view.sayProgress();
    else if (item === queue.selected && view.focusIsFree) {
      view.say("");
      view.focusOutcome();
    } else view.sayAnswer(item);
  });
  sending.addEventListener("failed", (event) => {
    const { item, alone } = /** @type {{item: Item, alone: boolean}} */ (detailOf(event));
    const { problem } = item;
    if (problem && (problem.code === "network" || problem.status >= 500)) service.refresh();
    if (!alone) {
      view.sayProgress();
      return;
    }
    view.say("");
    queue.select(item);
    view.focusOutcome();
  });
  sending.addEventListener("lost", () => view.say(t("check.lost")));
  sending.addEventListener("cancelled", () => {
    view.render();
    if (view.focusIsFree) view.focusCurrent();
    view.say(t("check.cancelled"));
  });
  sending.addEventListener("end", (event) => {
    const { alone } = /** @type {{alone: boolean}} */ (detailOf(event));
    if (alone) view.render();
    else view.showSummary();
  });
}

// @ts-check
/**
 * Renders a check: the selected picture, its answer, the list. Its state is `data-state` of <main>.
 */

import { mayRetry } from "../api.js";
import { button, el, find, styleSheet } from "../dom.js";
import { t, useWords } from "../i18n.js";
import { DICOM } from "../intake/types.js";
import { DermPicker } from "../intake/picker.js";
import { assessmentOf, correctedOf, urlOf } from "./state.js";

/** @typedef {import("./state.js").Item} Item */
/** @typedef {import("../api.js").Problem} Problem */

const SAY_MS = 5_000; // least time between announcements of progress, so that each is heard to its end

export const looksOfPictures = () => Promise.all(["picture", "result", "depth"].map(styleSheet));

/** Loads the parts that show a picture and its answer; not needed before the first picture. */
async function loadParts() {
  const [
    { DermVerdict },
    { DermFindings },
    { DermHeatmap },
    { DermProblem },
    { DermQueue, mostUrgent },
    { DermDepth, depthOf, toolsButton },
    { startKeys },
    { DermLesion },
    looks,
    after,
    { DermReader },
    { readerLabel },
    { DermSpot, MOST_PHOTOGRAPHS },
  ] = await Promise.all([
    import("../answer/verdict.js"),
    import("../answer/findings.js"),
    import("../answer/heatmap.js"),
    import("../answer/problem-view.js"),
    import("../intake/queue-list.js"),
    import("../answer/depth.js"),
    import("./keys.js"),
    import("../lesion/card.js"),
    import("../intake/looks.js"),
    import("../answer/after.js"),
    import("../reader/form.js"),
    import("../reader/mode.js"),
    import("../answer/spot.js"),
    useWords("answer"),
    looksOfPictures(),
  ]);
  return {
    verdict: find("derm-verdict", DermVerdict),
    findings: find("derm-findings", DermFindings),
    heatmap: find("derm-heatmap", DermHeatmap),
    problemView: find("derm-problem", DermProblem),
    list: find("derm-queue", DermQueue),
    depth: find("derm-depth", DermDepth),
    lesion: find("derm-lesion", DermLesion),
    reader: find("derm-reader", DermReader),
    readerLabel,
    spot: find("derm-spot", DermSpot),
    mostPhotographs: MOST_PHOTOGRAPHS,
    depthOf,
    toolsButton,
    startKeys,
    mostUrgent,
    looks,
    after,
  };
}

/** @typedef {Awaited<ReturnType<typeof loadParts>>} Parts */

/** @param {Item} item */
export const nameOf = ({ name }) => name || t("queue.unnamed");

export class CheckView {
  main = find("#main", HTMLElement);
  picker = find("derm-picker", DermPicker);
  assess = find("#assess", HTMLButtonElement);
  editing = find("#edit", HTMLButtonElement);
  another = find("#another", HTMLButtonElement);
  camera = find("#camera", HTMLButtonElement);
  cameraAgain = find("#camera-again", HTMLButtonElement);
  restart = find("#restart", HTMLButtonElement);
  addPhotograph = find("#add-photograph", HTMLButtonElement);
  cancel = find("#cancel", HTMLButtonElement);
  #outcome = find("#outcome", HTMLElement);
  #answerOf = find("#answer-of", HTMLElement);
  #several = find("#several", HTMLElement);
  #progress = find("#progress", HTMLElement);
  #progressBar = find("#progress-bar", HTMLProgressElement);
  #progressText = find("#progress-text", HTMLElement);
  #actions = find("#actions", HTMLElement);
  #concerns = find("#concerns", HTMLElement);
  #status = find("#status", HTMLElement);
  #after = find("#after", HTMLElement);
  #kept = find("#kept", HTMLElement);
  /** @type {Parts | null} */
  parts = null;
  /** @type {Promise<Parts> | null} */
  #loading = null;
  #showKeys = () => {};
  /** What is on the page, so that mere progress does not rebuild it. @type {unknown[]} */
  #shown = [];
  #lastSaid = 0;
  /** A refusal that does not belong to a picture. @type {Problem | null} */
  refusal = null;
  /** Whether this browser preserves the queue across reloads. */
  keeps = false;

  /**
   * @param {import("./state.js").Queue} queue
   * @param {import("./sending.js").Sending} sending
   */
  constructor(queue, sending) {
    this.queue = queue;
    this.sending = sending;
  }

  /** @returns {Promise<Parts>} */
  load() {
    this.#loading ??= loadParts().then(
      (loaded) => {
        this.#showKeys = loaded.startKeys(this.queue, this, loaded);
        document.addEventListener("depth", () => this.#changeDepth());
        document.addEventListener("outline", (event) => this.#correct(event));
        return (this.parts = loaded);
      },
      (error) => {
        this.#loading = null;
        throw error;
      },
    );
    return this.#loading;
  }

  /** @param {string} words */
  say(words) {
    this.#status.textContent = words;
  }

  /** Hides the note that pictures are kept, as storing one failed. */
  keepNothing() {
    this.keeps = false;
    this.render();
  }

  /**
   * Stores a corrected outline with the answer, which does not change.
   * @param {Event} event
   */
  #correct(event) {
    const { selected: item } = this.queue;
    if (!item?.answer || !this.parts) return;
    const { points } = /** @type {CustomEvent<{points: import("./state.js").Point[] | null}>} */ (event)
      .detail;
    this.queue.setOutline(item, points);
    this.#renderLesion(item);
    this.parts.after.renewPaper(item);
    this.parts.after.correctKept(item).catch(() => this.say(t("history.notCorrected")));
  }

  /** @param {Item | null} item */
  #renderLesion(item) {
    const { parts } = this;
    const content = { assessment: assessmentOf(item), clinical: parts?.depthOf() === "clinical" };
    parts?.lesion.show({ ...content, corrected: correctedOf(item), drawing: parts.heatmap.outline });
  }

  #changeDepth() {
    this.render();
    this.say(t(`depth.said.${this.parts?.depthOf()}`));
  }

  /** Appends to the last announcement. @param {string[]} words */
  sayAlso(words) {
    this.say([this.#status.textContent, ...words].join(" "));
  }

  /** Says that a part of the page could not be loaded, for example offline. */
  sayNotLoaded() {
    const notice = find("#service-notice", HTMLElement);
    notice.textContent = t("common.viewFailed");
    notice.hidden = false;
    this.say(t("common.viewFailed"));
  }

  /** Announces the progress of a run of several. */
  sayProgress() {
    if (Date.now() - this.#lastSaid < SAY_MS) return;
    this.#lastSaid = Date.now();
    this.say(t("check.saidProgress", this.sending.progress));
  }

  /** Renders everything anew, for example in another language. */
  renderAll() {
    this.#shown = [];
    this.render();
  }

  render() {
    const { selected: item, items } = this.queue;
    const problem = item ? item.problem : this.refusal;
    const state = this.#state(item, problem);
    this.main.dataset.state = state;
    this.main.toggleAttribute("data-several", items.length > 1);
    this.picker.hidden = Boolean(item?.file) || items.length > 1;
    this.#several.hidden = items.length < 2;
    this.#outcome.hidden = !assessmentOf(item) && !problem && state !== "reading";
    this.#concerns.hidden = state !== "ready" || !item?.concerns.length;
    this.#renderActions(item, state, problem);
    this.#renderProgress(item);
    this.parts?.list.show(this.queue, this.sending);
    this.parts?.reader.show(item);
    this.#kept.hidden = !this.keeps || items.length === 0 || !this.parts;
    if (!this.#kept.hidden) this.#kept.textContent = t("atHand.kept");
    this.#renderPicture(item, problem);
  }

  /** @param {Item | null} item @param {Problem | null} problem */
  #state(item, problem) {
    if (!item) return problem ? "problem" : "empty";
    const names = /** @type {Record<string, string>} */ ({
      refused: "problem",
      waiting: "ready",
      preparing: "ready",
    });
    return names[item.state] ?? item.state;
  }

  /** @param {Item | null} item @param {string} state @param {Problem | null} problem */
  #renderActions(item, state, problem) {
    const sendingAlone = state === "sending" && this.queue.items.length < 2;
    this.#actions.hidden = this.queue.items.length === 0 || !this.picker.hidden || sendingAlone;
    this.assess.hidden = item?.state !== "ready";
    const still = item && ["ready", "result", "problem"].includes(item.state);
    // a picture cropped from a DICOM file would lose its scale
    const cuttable = still && item.file && item.viewable && item.photo === 0 && item.file.type !== DICOM;
    this.editing.hidden = !cuttable;
    const room = item && this.parts && item.others.length + 1 < this.parts.mostPhotographs;
    const mayAdd = state === "reading" || (state === "result" && item?.reading === null);
    this.addPhotograph.hidden = !room || !mayAdd;
    this.cameraAgain.hidden = !["result", "problem"].includes(state);
    if (!this.cameraAgain.hidden) this.cameraAgain.textContent = t("camera.another");
    const leads = state === "result" || (problem !== null && !mayRetry(problem));
    this.another.classList.toggle("primary", leads && this.queue.items.length < 2);
  }

  /** Shows the progress of a single picture; the list shows its own. @param {Item | null} item */
  #renderProgress(item) {
    this.#progress.hidden = item?.state !== "sending" || this.queue.items.length > 1;
    if (!item || this.#progress.hidden) return;
    this.#progressText.textContent = t(item.share < 1 ? "check.sending" : "check.judging");
    if (item.share < 1) this.#progressBar.value = Math.round(item.share * 100);
    else this.#progressBar.removeAttribute("value"); // the duration of the assessment is unknown
  }

  /** @param {Item | null} item @param {Problem | null} problem */
  #renderPicture(item, problem) {
    const { parts } = this;
    if (!parts) return;
    const assessment = assessmentOf(item);
    const depth = parts.depthOf();
    this.main.dataset.depth = depth;
    const url = item ? urlOf(item) : "";
    const before = item?.state === "reading" ? item.others : null;
    const now = [depth, item, url, item?.thumb, assessment, problem, item?.concerns, item?.viewable, before];
    if (now.length === this.#shown.length && now.every((value, at) => value === this.#shown[at])) return;
    // a new thumbnail alone must not rebuild what is being read, ticked or typed beside it
    const [shownDepth, shownItem, shownUrl, , shownAnswer, shownProblem, , , shownBefore] = this.#shown;
    const another = shownItem !== item || shownAnswer !== assessment || this.#shown.length === 0;
    this.#shown = now;
    // hidden if there is nothing to look at and nothing to assess
    parts.heatmap.hidden = !item?.file || (problem !== null && !item.viewable);
    const alt = item ? t("check.chosen", { name: nameOf(item) }) : "";
    const corrected = correctedOf(item);
    const clinical = depth === "clinical";
    parts.heatmap.show({ src: url, alt, assessment, corrected, clinical });
    this.#renderLesion(item);
    if (another || shownDepth !== depth) {
      parts.verdict.brief = depth === "lay";
      parts.verdict.assessment = assessment;
      this.#renderDepth(assessment !== null);
    }
    if (another || shownDepth !== depth || shownUrl !== url || shownBefore !== before) {
      parts.spot.show(item, assessment);
    }
    parts.findings.compressed = item?.concerns.includes("compressed") ?? false;
    parts.findings.open = clinical && !assessment?.lesion; // only one of the two lists fits on one screen
    parts.findings.assessment = assessment;
    if (another || shownProblem !== problem) parts.problemView.problem = problem;
    const concerns = (item?.concerns ?? []).map((concern) => el("p", {}, t(`concern.${concern}`)));
    this.#concerns.replaceChildren(...concerns);
    if (another || shownUrl !== url) {
      const cards = item && assessment ? parts.after.cardsAfter(item) : [];
      this.#after.replaceChildren(...cards);
    }
    this.#renderAnswerOf(item);
  }

  /** Shows the choice between lay and clinical. @param {boolean} answered */
  #renderDepth(answered) {
    const { parts } = this;
    if (!parts) return;
    parts.depth.hidden = !answered;
    const list = button(t("keys.title"), () => this.#showKeys(), "keys-open");
    parts.depth.show(...(parts.depthOf() === "clinical" ? [parts.toolsButton(), list] : []));
  }

  /** Shows which picture the answer belongs to. @param {Item | null} item */
  #renderAnswerOf(item) {
    this.#answerOf.hidden = !item;
    if (!item) return;
    const name = el("span", { id: "answer-name", dir: "auto" }, nameOf(item));
    const thumb = item.thumb ? el("img", { src: item.thumb, alt: "", width: 48, height: 48 }) : null;
    this.#answerOf.replaceChildren(...(thumb ? [thumb] : []), name);
    this.#outcome.querySelector("h2")?.setAttribute("aria-describedby", "answer-name");
  }

  /** Whether the focus may move: it is nowhere, or on a control of the run. */
  get focusIsFree() {
    const active = document.activeElement;
    return !active || active === document.body || active.closest(".run, #progress, #actions") !== null;
  }

  /** Moves the focus to the control that cancels the run. */
  focusCancel() {
    if (!this.#several.hidden) this.parts?.list.focusCancel();
    else this.cancel.focus();
  }

  /** Announces an answer while the reader is elsewhere on the page. @param {Item} item */
  sayAnswer(item) {
    const decision = assessmentOf(item)?.decision;
    const waits = item.state === "reading" ? t("queue.state.reading") : "";
    const answer = decision ? t(`verdict.${decision}.short`) : waits;
    this.say(t("check.saidAnswer", { name: nameOf(item), answer }));
  }

  /** Summarises a run of several, and selects the most urgent picture. */
  showSummary() {
    const free = this.focusIsFree;
    const first = this.parts?.mostUrgent(this.queue.items);
    if (first && free) this.queue.select(first);
    else this.render();
    if (free) this.parts?.list.focusHeading();
    else this.say(this.parts?.list.summary ?? "");
  }

  /** Moves the focus to the selected picture's control that is visible now. */
  focusCurrent() {
    if (!this.#several.hidden) this.parts?.list.focusCurrent();
    else if (!this.assess.hidden && !this.#actions.hidden) this.assess.focus();
    else if (!this.#outcome.hidden) this.focusOutcome();
    else if (!this.#actions.hidden) this.another.focus();
    else this.picker.querySelector("input")?.focus();
  }

  focusOutcome() {
    const { parts } = this;
    if (!parts) return;
    if (this.queue.selected?.state === "reading") this.focusHeading(parts.reader);
    else this.focusHeading(parts.verdict.hidden ? parts.problemView : parts.verdict);
  }

  /**
   * Moves the focus to the heading of an answer or problem, and scrolls the picture's name into view too.
   *
   * @param {{focusHeading: () => void}} part
   */
  focusHeading(part) {
    part.focusHeading();
    for (const shown of [this.#answerOf, document.activeElement]) shown?.scrollIntoView({ block: "nearest" });
  }

  /** Scrolls the selected picture's answer into view if the list has pushed it out. */
  showOutcome() {
    const place = this.#outcome.hidden ? find("#picture", HTMLElement) : this.#outcome;
    const { top } = place.getBoundingClientRect();
    if (top < 0 || top > window.innerHeight * 0.6) place.scrollIntoView({ block: "start" });
  }
}

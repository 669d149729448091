// @ts-check
/** <derm-picker>: takes one picture by choosing, photographing, dropping or pasting, and checks it. */

import { Problem } from "./api.js";
import { check } from "./checks.js";

/**
 * Wraps the two file inputs that the page holds. Attribute out: `touch`, on devices with a touch screen. Events out: `picture` with `{file: File}`, `refused` with `{problem: Problem}`.
 * Dropping and pasting work on the whole page, whether or not this element is shown.
 */
export class DermPicker extends HTMLElement {
  /** @type {AbortController | null} */
  #listening = null;
  #depth = 0;

  connectedCallback() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    this.toggleAttribute("touch", navigator.maxTouchPoints > 0);
    for (const input of this.querySelectorAll("input")) {
      input.addEventListener(
        "change",
        () => {
          const files = [...(input.files ?? [])];
          input.value = ""; // the same file may be chosen again
          if (files.length > 0) this.#take(files);
        },
        { signal },
      );
    }
    document.addEventListener("dragenter", (event) => this.#drag(event, 1), { signal });
    document.addEventListener("dragleave", (event) => this.#drag(event, -1), { signal });
    document.addEventListener("dragover", (event) => this.#drag(event, 0), { signal });
    document.addEventListener("drop", (event) => this.#drop(event), { signal });
    document.addEventListener("paste", (event) => this.#paste(event), { signal });
  }

  disconnectedCallback() {
    this.#listening?.abort();
  }

  /** Opens the browser's file dialog; also while this element is hidden. */
  open() {
    this.querySelector("input")?.click();
  }

  /** Moves focus to the first way to choose a picture. */
  focusFirst() {
    this.querySelector("input")?.focus();
  }

  /**
   * @param {DragEvent} event
   * @param {number} step dragenter and dragleave come for each element passed, so they are counted
   */
  #drag(event, step) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // else the browser opens the file instead of this page
    event.dataTransfer.dropEffect = "copy";
    this.#depth = Math.max(0, this.#depth + step);
    document.body.toggleAttribute("data-dragging", this.#depth > 0);
  }

  /** @param {DragEvent} event */
  #drop(event) {
    event.preventDefault();
    this.#depth = 0;
    document.body.removeAttribute("data-dragging");
    const items = [...(event.dataTransfer?.items ?? [])];
    if (items.some((item) => item.webkitGetAsEntry?.()?.isDirectory)) this.#refuse(new Problem("unreadable_file"));
    else this.#take([...(event.dataTransfer?.files ?? [])]);
  }

  /** @param {ClipboardEvent} event */
  #paste(event) {
    event.preventDefault();
    const files = [...(event.clipboardData?.files ?? [])];
    // browsers offer one copied picture in several formats
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    this.#take(pictures.length > 0 ? pictures.slice(0, 1) : files);
  }

  /** @param {File[]} files */
  async #take(files) {
    if (files.length !== 1) {
      this.#refuse(new Problem(files.length === 0 ? "no_picture" : "several_files"));
      return;
    }
    const [file] = files;
    const problem = await check(file);
    if (problem) this.#refuse(problem);
    else this.dispatchEvent(new CustomEvent("picture", { detail: { file } }));
  }

  /** @param {Problem} problem */
  #refuse(problem) {
    this.dispatchEvent(new CustomEvent("refused", { detail: { problem } }));
  }
}

customElements.define("derm-picker", DermPicker);

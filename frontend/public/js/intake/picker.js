// @ts-check
/** <derm-picker>: takes pictures by choosing, dropping or pasting. */

/**
 * Wraps the file input that the page holds. Events out, once `start` was called: `files` with `{files:
 * File[]}`, `refused` with
 * `{code: string}` of a problem. What came before, even before this script did, is told then.
 * Dropping and pasting work on the whole page, whether or not this element is shown.
 */
export class DermPicker extends HTMLElement {
  /** @type {AbortController | null} */
  #listening = null;
  #depth = 0;
  /** @type {CustomEvent[] | null} */
  #held = [];

  connectedCallback() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const input = this.querySelector("input");
    const chosen = () => {
      const files = [...(input?.files ?? [])];
      if (input) input.value = ""; // the same file may be chosen again
      if (files.length > 0) this.#take(files);
    };
    input?.addEventListener("change", chosen, { signal });
    chosen();
    document.addEventListener("dragenter", (event) => this.#drag(event, 1), { signal });
    document.addEventListener("dragleave", (event) => this.#drag(event, -1), { signal });
    document.addEventListener("dragover", (event) => this.#drag(event, 0), { signal });
    document.addEventListener("drop", (event) => this.#drop(event), { signal });
    document.addEventListener("paste", (event) => this.#paste(event), { signal });
  }

  disconnectedCallback() {
    this.#listening?.abort();
  }

  /** From now on someone listens. */
  start() {
    const held = this.#held ?? [];
    this.#held = null;
    for (const event of held) this.dispatchEvent(event);
  }

  /** Opens the browser's file dialog; also while this element is hidden. */
  open() {
    this.querySelector("input")?.click();
  }

  /**
   * @param {DragEvent} event
   * @param {number} step dragenter and dragleave come for each element passed, so they are counted
   */
  #drag(event, step) {
    if (!event.dataTransfer?.types.includes("Files") || blocked()) return;
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
    if (!blocked()) dropped(event).then((files) => this.#take(files));
  }

  /** @param {ClipboardEvent} event */
  #paste(event) {
    const target = event.target;
    if (blocked() || (target instanceof HTMLElement && target.matches("input:not([type=file]), textarea")))
      return;
    event.preventDefault();
    this.#take(pasted(event));
  }

  /** @param {File[]} files */
  #take(files) {
    if (files.length === 0) this.#refuse("no_picture");
    else this.#tell("files", { files });
  }

  /** @param {string} code */
  #refuse(code) {
    this.#tell("refused", { code });
  }

  /** @param {string} type @param {object} detail */
  #tell(type, detail) {
    const event = new CustomEvent(type, { detail });
    if (this.#held) this.#held.push(event);
    else this.dispatchEvent(event);
  }
}

/**
 * What was dropped, with the pictures in folders.
 *
 * @param {DragEvent} event
 * @returns {Promise<File[]>} none where there is no file
 */
export async function dropped({ dataTransfer }) {
  const entries = [...(dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = [...(dataTransfer?.files ?? [])];
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  const found = await Promise.all(entries.map((entry) => (entry ? filesIn(entry) : []))).catch(() => []);
  return found.flat().filter(({ name }) => !name.startsWith("."));
}

/** What was pasted, none where there is no file. @param {ClipboardEvent} event @returns {File[]} */
export function pasted({ clipboardData }) {
  const files = [...(clipboardData?.files ?? [])];
  // one picture copied out of a page comes in several formats, under one name
  const pictures = files.filter((file) => file.type.startsWith("image/"));
  const one =
    pictures.length > 1 && new Set(pictures.map(({ name }) => name.replace(/\.\w+$/, ""))).size === 1;
  return pictures.length > 0 ? (one ? pictures.slice(0, 1) : pictures) : files;
}

/**
 * @param {FileSystemEntry} entry
 * @returns {Promise<File[]>} itself, or what is in a folder and its folders, by name
 */
async function filesIn(entry) {
  if (entry.isFile) {
    const file = /** @type {FileSystemFileEntry} */ (entry);
    return [await new Promise((resolve, reject) => file.file(resolve, reject))];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  /** @type {FileSystemEntry[]} */
  const inside = [];
  /** @type {FileSystemEntry[]} */
  let some;
  do {
    some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    inside.push(...some);
  } while (some.length > 0);
  inside.sort((one, other) => one.name.localeCompare(other.name));
  return (await Promise.all(inside.map(filesIn))).flat();
}

/** A dialog is open: nothing behind it takes anything. */
const blocked = () => document.querySelector("dialog[open]") !== null;

customElements.define("derm-picker", DermPicker);

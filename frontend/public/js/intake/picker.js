// @ts-check
/** <derm-picker>: accepts pictures that are chosen, dropped or pasted. */

/**
 * Wraps the page's file input. Events, from `start` on: `files` with `{files: File[]}`, `refused` with
 * `{code: string}` of a problem. Earlier input, even from before this script loaded, is reported then.
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

  /** Dispatches the events held so far, and later ones at once. */
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
   * @param {number} step 1, -1 or 0: dragenter and dragleave fire for each element passed and are counted
   */
  #drag(event, step) {
    if (!event.dataTransfer?.types.includes("Files") || blocked()) return;
    event.preventDefault(); // else the browser would leave the page and open the file
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
 * The dropped files, including those in folders.
 *
 * @param {DragEvent} event
 * @returns {Promise<File[]>} empty if there is no file
 */
export async function dropped({ dataTransfer }) {
  const entries = [...(dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = [...(dataTransfer?.files ?? [])];
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  const found = await Promise.all(entries.map((entry) => (entry ? filesIn(entry) : []))).catch(() => []);
  return found.flat().filter(({ name }) => !name.startsWith("."));
}

/** The pasted files, empty if there are none. @param {ClipboardEvent} event @returns {File[]} */
export function pasted({ clipboardData }) {
  const files = [...(clipboardData?.files ?? [])];
  // a picture copied from a web page comes in several formats under one name
  const pictures = files.filter((file) => file.type.startsWith("image/"));
  const one =
    pictures.length > 1 && new Set(pictures.map(({ name }) => name.replace(/\.\w+$/, ""))).size === 1;
  return pictures.length > 0 ? (one ? pictures.slice(0, 1) : pictures) : files;
}

/**
 * @param {FileSystemEntry} entry
 * @returns {Promise<File[]>} the file itself, or all files in a folder and its subfolders, by name
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

/** Whether an open dialog blocks input to the page. */
const blocked = () => document.querySelector("dialog[open]") !== null;

customElements.define("derm-picker", DermPicker);

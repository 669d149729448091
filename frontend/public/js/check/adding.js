// @ts-check
/** Adds pictures to the queue, checks them before they are sent, crops them and removes them. */

import { Problem } from "../api.js";
import { bytes, t } from "../i18n.js";
import { asPng, bitmapOf, isShown } from "../intake/bitmap.js";
import { digestOf } from "../intake/digest.js";
import { prepare } from "../intake/files.js";
import { looksOfPictures, nameOf } from "./view.js";

/** @typedef {import("./state.js").Item} Item */

/** States in which another picture replaces a single one. */
const DONE = ["result", "problem", "refused", "ready"];

export class Adding {
  /**
   * @param {import("./state.js").Queue} queue
   * @param {import("./sending.js").Sending} sending
   * @param {import("./view.js").CheckView} view
   */
  constructor(queue, sending, view) {
    this.queue = queue;
    this.sending = sending;
    this.view = view;
  }

  /**
   * @param {File[]} files
   * @param {string | null} [mole] of the history, shown in these files
   * @returns {Promise<Item>} the selected one
   */
  async add(files, mole = null) {
    const { queue, view } = this;
    await view.load();
    view.refusal = null;
    const [only] = queue.items;
    const replaced =
      queue.items.length === 1 && files.length === 1 && DONE.includes(only.state) ? only : null;
    /** @type {Item[]} */
    const added = [];
    for (const file of files) {
      try {
        added.push(queue.add(file, { prepared: await prepare(file), mole }));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        added.push(queue.add(file, { problem: error }));
      }
    }
    if (replaced) queue.remove(replaced);
    const first = added.find(({ state }) => state === "ready") ?? added[0];
    queue.select(first);
    if (first.problem) {
      view.say("");
      view.focusOutcome();
    } else if (added.length > 1) {
      view.say(t("check.saidSeveral", { count: added.length }));
      view.parts?.list.focusAssessAll();
    } else {
      view.say(t("check.said", { name: nameOf(first), size: bytes(first.source.size) }));
      view.assess.focus();
    }
    for (const item of added) await this.#lookAt(item);
    return first;
  }

  /**
   * Assesses photographs of the history again; several are assessed together, as before.
   *
   * @param {File[]} files
   * @param {string} mole shown in them
   */
  async again([file, ...further], mole) {
    const item = await this.add([file], mole);
    if (further.length === 0 || item.state !== "ready") return;
    const { anotherOf } = await import("../answer/spot-add.js");
    const prepared = await Promise.all(further.map(prepare));
    this.queue.setOthers(item, await Promise.all(prepared.map(anotherOf)));
    this.sending.start([item]);
    this.view.focusCancel();
  }

  /** Measures a picture and makes its thumbnail. @param {Item} item */
  async #lookAt(item) {
    const { looks } = await this.view.load();
    const { file } = item;
    const bitmap = file && (await bitmapOf(file).catch(() => null));
    if (!bitmap) return; // the browser cannot show it; the server may be able to
    const { isHeavilyCompressed } = await import("../intake/compression.js");
    /** @type {string[]} */
    const found = looks.concerns(looks.look(bitmap, bitmap.width, bitmap.height));
    if (await isHeavilyCompressed(file)) found.push("compressed");
    const thumb = looks.thumbnail(bitmap);
    const shown = (await isShown(file)) ? null : await asPng(bitmap);
    bitmap.close();
    if (item.file !== file) return;
    if (shown) this.queue.showAs(item, shown);
    this.queue.update(item, { viewable: true, concerns: found, thumb });
    if (item !== this.queue.selected || item.state !== "ready" || found.length === 0) return;
    this.view.sayAlso(found.map((concern) => t(`concern.${concern}`)));
  }

  /** Shows a restored picture whose format this browser cannot show. @param {Item} item */
  async show(item) {
    const { file } = item;
    for (const other of item.others) {
      if (await isShown(other.file)) continue;
      const bitmap = await bitmapOf(other.file);
      URL.revokeObjectURL(other.url);
      other.url = URL.createObjectURL(await asPng(bitmap));
      bitmap.close();
      this.view.renderAll();
    }
    if (!file || !item.viewable || (await isShown(file))) return;
    const bitmap = await bitmapOf(file);
    this.queue.showAs(item, await asPng(bitmap));
    bitmap.close();
    this.view.render();
  }

  /** @param {Item} item */
  async edit(item) {
    if (!item.base) return;
    const { edit } = await import("../intake/editor.js");
    const before = item.state;
    const changed = await edit(item.base.file, item.cut, () => {
      this.sending.drop(item);
      this.queue.update(item, { state: "preparing" });
    });
    if (!changed) {
      if (item.state === "preparing") this.queue.update(item, { state: before });
      this.view.editing.focus();
      return;
    }
    const digest = await digestOf(await changed.file.arrayBuffer());
    this.queue.replace(item, { file: changed.file, digest }, changed.cut);
    this.view.assess.focus();
    this.view.say(t("editor.done"));
    await this.#lookAt(item);
  }

  /** Replaces a picture that is too large with a smaller copy. @param {Item} item */
  async shrink(item) {
    const { smallerCopy } = await import("../intake/bitmap.js");
    const copy = await smallerCopy(item.source).catch(() => null);
    if (!copy || !this.queue.items.includes(item)) {
      this.view.say(t("editor.failed"));
      return;
    }
    const prepared = await prepare(copy);
    item.base = prepared;
    this.queue.replace(item, prepared, null);
    this.view.assess.focus();
    this.view.say(t("editor.done"));
    await this.#lookAt(item);
  }

  /** @param {{ghost?: string}} options @param {string | null} [mole] */
  async photograph(options, mole = null) {
    const [{ photograph }] = await Promise.all([import("../intake/camera.js"), looksOfPictures()]);
    const file = await photograph(options);
    if (!file) return;
    if (location.hash && location.hash !== "#check") location.hash = "check";
    await this.add([file], mole);
  }

  /** @param {Item} item */
  remove(item) {
    this.sending.drop(item);
    this.queue.remove(item);
    this.view.say(t("queue.removed", { name: nameOf(item) }));
    this.view.focusCurrent();
  }

  /** Removes all pictures. */
  removeAll() {
    this.sending.cancel();
    this.view.refusal = null;
    this.queue.clear();
    this.view.say(t("queue.removedAll"));
    this.view.focusCurrent();
  }
}

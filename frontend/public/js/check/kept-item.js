// @ts-check
/** Serialises an item of the queue: a JSON text and the bytes of its files. */

import { Problem } from "../api.js";

/** @typedef {import("./state.js").Item} Item */

/** @param {Item} item @returns {File[]} those of `base` and `file`, or the refused file */
function ownFilesOf({ base, file, source }) {
  if (!base || !file) return [source];
  return base.file === file ? [file] : [base.file, file];
}

/** The item's own files and the further photographs. @param {Item} item */
export const filesOf = (item) => [...ownFilesOf(item), ...item.others.map(({ file }) => file)];

/** A value whose identity changes when the bytes to write change. @param {Item} item */
export const contentOf = ({ file, others }) => (others.length > 0 ? others : file);

/** Empty for what cannot be read, such as a refused folder. @param {Item} item */
export const bytesOf = (item) => new Blob(filesOf(item)).arrayBuffer().catch(() => new ArrayBuffer(0));

/** The item without its files; one that was being sent will be sent again. @param {Item} item */
export function stateOf(item) {
  const { name, digest, cut, thumb, viewable, concerns, problem, mole, kept, signs, base, reading, photo } =
    item;
  const { entry, outlines } = item;
  const state = { sending: "waiting", preparing: "ready" }[/** @type {string} */ (item.state)] ?? item.state;
  return {
    ...{ name, digest, cut, thumb, viewable, concerns, mole, kept, state, reading, photo, entry, outlines },
    ...{ baseDigest: base?.digest ?? "", signs: [...signs], sizes: filesOf(item).map(({ size }) => size) },
    types: filesOf(item).map(({ type }) => type),
    others: item.others.map((other) => other.digest),
    problem: problem && { ...problem, message: problem.message },
    answer: written(item.answer),
    sealed: written(item.sealed),
  };
}

/** @param {Item["answer"]} answer */
const written = (answer) => answer && { ...answer, at: answer.at.getTime() };

/** The fields of an item that cause a write when they change. @param {Item} item */
export const signOf = (item) => [
  ...[
    item.state === "sending" ? "waiting" : item.state,
    contentOf(item),
    item.digest,
    item.thumb,
    item.viewable,
  ],
  ...[item.concerns, item.problem, item.answer, item.mole, item.kept, item.signs.size],
  ...[item.sealed, item.reading, item.photo, item.entry, item.outlines],
];

/**
 * @param {ReturnType<typeof stateOf>} state
 * @param {ArrayBuffer} bytes
 * @returns {Partial<Item> & {source: File}}
 */
export function itemOf(
  { sizes, types, baseDigest, signs, problem, answer, sealed, others, state, ...rest },
  bytes,
) {
  let from = 0;
  const files = sizes.map((size, at) => {
    const file = new File([bytes.slice(from, from + size)], rest.name, { type: types[at] });
    from += size;
    return file;
  });
  const further = files.splice(files.length - others.length);
  const [source] = files;
  const prepared = state !== "refused" || Boolean(rest.digest);
  return {
    ...rest,
    outlines: rest.outlines ?? {}, // missing in items written by older versions
    source,
    others: others.map((other, at) => ({ file: further[at], digest: other, url: "" })),
    base: prepared ? { file: source, digest: baseDigest } : null,
    file: prepared ? files[files.length - 1] : null,
    state: /** @type {import("./state.js").ItemState} */ (state),
    signs: new Set(signs),
    problem: problem && Object.assign(new Problem(problem.code, problem), { retryAt: problem.retryAt }),
    answer: asItWas(answer),
    sealed: asItWas(sealed),
  };
}

/** @param {ReturnType<typeof written>} answer */
const asItWas = (answer) => answer && { ...answer, at: new Date(answer.at) };

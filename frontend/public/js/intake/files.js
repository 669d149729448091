// @ts-check
/** Checks a file before it is sent. The server checks its content and decides. */

import { Problem } from "../api.js";
import { bytes, t } from "../i18n.js";
import { digestOf } from "./digest.js";
import { DICOM, isHeic, typeOf } from "./types.js";

export const MAX_BYTES = 20_000_000;
// Larger than the upload limit, as a film appended to the picture is removed before sending; far larger files
// are not pictures to assess.
const MAX_READ = 4 * MAX_BYTES;

const HEIC = /^(image\/hei[cf](-sequence)?|image\/avif)$/;

/** @param {string} name */
const extensionOf = (name) => (/\.([a-z0-9]{1,5})$/i.exec(name)?.[1] ?? "").toLowerCase();

/** Why a file in none of the formats is refused. @param {File} file */
async function refusal(file) {
  const extension = extensionOf(file.name);
  const heic = HEIC.test(file.type) || ["heic", "heif", "avif"].includes(extension) || (await isHeic(file));
  if (heic) return new Problem("heic");
  const what = `${file.name} (${file.type || extension})`;
  return new Problem("unsupported_type", { detail: t("file.received", { what }), own: true });
}

/** @param {number} size */
const tooLarge = (size) =>
  new Problem("too_large", {
    detail: t("file.limit", { received: bytes(size), allowed: bytes(MAX_BYTES) }),
    own: true,
  });

/**
 * Whether the file can be read; folders and deleted files look like files until they are read.
 * @param {File} file
 */
const isReadable = (file) =>
  file
    .slice(0, 16)
    .arrayBuffer()
    .then(
      () => true,
      () => false,
    );

/**
 * Checks a file and removes its metadata.
 *
 * @param {File} file
 * @returns {Promise<{file: File, digest: string}>} what to send; rejects with a Problem if it is not
 *   worth sending
 */
export async function prepare(file) {
  if (!(await isReadable(file))) throw new Problem("unreadable_file");
  if (file.size === 0) throw new Problem("empty_file");
  // by content: names and declared types are often wrong, and files that are not pictures are never sent
  const type = await typeOf(file);
  if (!type) throw await refusal(file);
  if (file.size > MAX_READ) throw tooLarge(file.size);
  let prepared;
  try {
    const { withoutMetadata } = await import("./metadata.js"); // not needed before the first picture
    prepared = await withoutMetadata(file);
  } catch {
    throw new Problem("unreadable_file");
  }
  if (prepared.size > MAX_BYTES) throw tooLarge(prepared.size);
  if (type === DICOM && prepared.type !== type) prepared = new File([prepared], prepared.name, { type });
  return { file: prepared, digest: await digestOf(await prepared.arrayBuffer()) };
}

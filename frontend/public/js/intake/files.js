// @ts-check
/** What can be said of a file before it is sent. The server judges by content and has the last word. */

import { Problem } from "../api.js";
import { bytes, t } from "../i18n.js";
import { digestOf } from "./digest.js";
import { DICOM, isHeic, typeOf } from "./types.js";

export const MAX_BYTES = 20_000_000;
// A film behind the picture goes before sending, so more than the limit is read; far more is no picture that
// is judged here.
const MAX_READ = 4 * MAX_BYTES;

const HEIC = /^(image\/hei[cf](-sequence)?|image\/avif)$/;

/** @param {string} name */
const extensionOf = (name) => (/\.([a-z0-9]{1,5})$/i.exec(name)?.[1] ?? "").toLowerCase();

/** Why a file that is none of the formats is refused. @param {File} file */
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
 * Whether the file can still be read; folders, and files that are gone, look like files until then.
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
 * Checks a file and takes its metadata out.
 *
 * @param {File} file
 * @returns {Promise<{file: File, digest: string}>} what is to be sent; rejects with a Problem when it is not
 *   worth sending
 */
export async function prepare(file) {
  if (!(await isReadable(file))) throw new Problem("unreadable_file");
  if (file.size === 0) throw new Problem("empty_file");
  // by content: names and declared types are often wrong, and what is no picture is not sent at all
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

// @ts-check
/** What can be said of a file before it is sent. The server judges by content and has the last word. */

import { Problem } from "../api.js";
import { bytes, t } from "../i18n.js";
import { digestOf } from "./digest.js";

export const MAX_BYTES = 20_000_000;
// A film behind the picture goes before sending, so more than the limit is read; far more is no picture that
// is judged here.
const MAX_READ = 4 * MAX_BYTES;

const TYPES = new Set([
  "image/jpeg",
  "image/jpg",
  "image/pjpeg",
  "image/png",
  "image/apng",
  "image/webp",
  "image/bmp",
  "image/x-ms-bmp",
  "image/x-bmp",
  "image/tiff",
  "image/gif",
]);
const EXTENSIONS = new Set(["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "tif", "tiff", "gif"]);
const HEIC = /^(image\/hei[cf](-sequence)?|image\/avif)$/;

/** @param {string} name */
const extensionOf = (name) => (/\.([a-z0-9]{1,5})$/i.exec(name)?.[1] ?? "").toLowerCase();

/** @param {File} file @returns {Problem | null} */
function refusal(file) {
  const extension = extensionOf(file.name);
  if (HEIC.test(file.type) || ["heic", "heif", "avif"].includes(extension)) return new Problem("heic");
  const declared = file.type !== "";
  if (declared ? !TYPES.has(file.type) : extension !== "" && !EXTENSIONS.has(extension)) {
    return new Problem("unsupported_type", {
      detail: t("file.received", { what: `${file.name} (${file.type || extension})` }),
      own: true,
    });
  }
  return null;
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
export const isReadable = (file) =>
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
  const refused = refusal(file);
  if (refused) throw refused;
  if (file.size > MAX_READ) throw tooLarge(file.size);
  if (!(await isReadable(file))) throw new Problem("unreadable_file");
  if (file.size === 0) throw new Problem("empty_file");
  let prepared;
  try {
    const { withoutMetadata } = await import("./metadata.js"); // not needed before the first picture
    prepared = await withoutMetadata(file);
  } catch {
    throw new Problem("unreadable_file");
  }
  if (prepared.size > MAX_BYTES) throw tooLarge(prepared.size);
  return { file: prepared, digest: await digestOf(await prepared.arrayBuffer()) };
}

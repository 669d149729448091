// @ts-check
/** What can be said of a file before it is sent. The server judges by content and has the last word. */

import { Problem } from "./api.js";
import { bytes } from "./messages.js";

export const MAX_BYTES = 20_000_000;

const TYPES = new Set([
  "image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/apng", "image/webp", "image/bmp", "image/x-ms-bmp", "image/x-bmp",
  "image/tiff", "image/gif",
]);
const EXTENSIONS = new Set(["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "tif", "tiff", "gif"]);
const HEIC = /^(image\/hei[cf](-sequence)?|image\/avif)$/;

/** @param {string} name */
const extensionOf = (name) => (/\.([a-z0-9]{1,5})$/i.exec(name)?.[1] ?? "").toLowerCase();

/**
 * @param {File} file
 * @returns {Promise<Problem | null>} why it is not worth sending, or null
 */
export async function check(file) {
  const extension = extensionOf(file.name);
  if (HEIC.test(file.type) || ["heic", "heif", "avif"].includes(extension)) return new Problem("heic");
  const declared = file.type !== "";
  if (declared ? !TYPES.has(file.type) : extension !== "" && !EXTENSIONS.has(extension)) {
    return new Problem("unsupported_type", { detail: `Received: ${file.name} (${file.type || "of unknown type"}).` });
  }
  if (file.size > MAX_BYTES) {
    return new Problem("too_large", { detail: `Received: ${bytes(file.size)}. Allowed: ${bytes(MAX_BYTES)}.` });
  }
  try {
    // folders, and files that are gone, look like files until they are read
    await file.slice(0, 16).arrayBuffer();
  } catch {
    return new Problem("unreadable_file");
  }
  if (file.size === 0) return new Problem("empty_file");
  return null;
}

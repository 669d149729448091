// @ts-check
/** Detects a file's type by its first bytes; names and declared types are often wrong or missing. */

export const DICOM = "application/dicom";
/** @type {[type: string, starts: (head: string) => boolean][]} */
const TYPES = [
  [DICOM, (head) => head.slice(128, 132) === "DICM"],
  ["image/jpeg", (head) => head.startsWith("\xff\xd8\xff")],
  ["image/png", (head) => head.startsWith("\x89PNG\r\n\x1a\n")],
  ["image/webp", (head) => head.startsWith("RIFF") && head.slice(8, 12) === "WEBP"],
  ["image/gif", (head) => head.startsWith("GIF8")],
  ["image/tiff", (head) => ["II*\0", "MM\0*", "II+\0", "MM\0+"].includes(head.slice(0, 4))],
  ["image/bmp", (head) => head.startsWith("BM")],
];
const HEIC = /^(hei[cfmsx]|hev[cmsx]|mif1|msf1|avi[fs])$/;

/** @param {Blob} file @returns {Promise<string>} its first bytes */
const headOf = async (file) => String.fromCharCode(...new Uint8Array(await file.slice(0, 132).arrayBuffer()));

/** @param {Blob} file @returns {Promise<string>} media type; empty if it is not supported */
export async function typeOf(file) {
  const head = await headOf(file);
  return TYPES.find(([, starts]) => starts(head))?.[0] ?? "";
}

/** Whether it is a HEIC or AVIF picture. @param {Blob} file */
export async function isHeic(file) {
  const head = await headOf(file);
  return head.slice(4, 8) === "ftyp" && HEIC.test(head.slice(8, 12));
}

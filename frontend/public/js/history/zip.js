// @ts-check
/**
 * Writes and reads ZIP archives (APPNOTE 6.3) of uncompressed files. Archives are composed of blobs and read
 * in slices, so that hundreds of megabytes are never in memory at once. Archives deflated by another program
 * can be read, and of a truncated archive every complete entry.
 */

/** @typedef {{name: string, content: Blob}} Entry */

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const LOCAL_SIZE = 30;
const CENTRAL_SIZE = 46;
const END_SIZE = 22;
const UTF8 = 0x0800; // flag: names are UTF-8
const LATER = 0x0008; // flag: sizes follow the content
const MOST = 0xffffffff; // bytes of an archive without the ZIP64 extension
const MOST_ENTRIES = 0xffff;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  return sum >>> 0;
});

/** The checksum of ISO 3309, read in pieces. @param {Blob} blob */
async function crc32(blob) {
  let sum = 0xffffffff;
  const reader = blob.stream().getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    for (const byte of step.value) sum = TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  }
  return ~sum >>> 0;
}

/** Date and time in MS-DOS format. @param {Date} at */
const dosTime = (at) => ({
  time: (at.getHours() << 11) | (at.getMinutes() << 5) | (at.getSeconds() >> 1),
  date: ((Math.max(1980, at.getFullYear()) - 1980) << 9) | ((at.getMonth() + 1) << 5) | at.getDate(),
});

/**
 * Packs values into bytes, least significant first.
 *
 * @param {...[width: 2 | 4, value: number]} fields
 */
function packed(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [width]) => sum + width, 0)));
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return view;
}

/**
 * @param {Entry[]} entries with unique names
 * @param {Date} [at] their modification time
 * @returns {Promise<Blob>} rejects with a RangeError beyond the limits of a ZIP archive
 */
export async function pack(entries, at = new Date()) {
  const { time, date } = dosTime(at);
  /** @type {BlobPart[]} */
  const parts = [];
  /** @type {BlobPart[]} */
  const directory = [];
  let [offset, directorySize] = [0, 0];
  for (const { name, content } of entries) {
    const bytes = new TextEncoder().encode(name);
    const sizes = /** @type {[2 | 4, number][]} */ ([
      [4, await crc32(content)],
      [4, content.size],
      [4, content.size],
      [2, bytes.length],
      [2, 0],
    ]);
    const common = /** @type {[2 | 4, number][]} */ ([
      [2, 20],
      [2, UTF8],
      [2, 0],
      [2, time],
      [2, date],
      ...sizes,
    ]);
    parts.push(packed([4, LOCAL], ...common), bytes, content);
    directory.push(
      packed([4, CENTRAL], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]),
      bytes,
    );
    offset += LOCAL_SIZE + bytes.length + content.size;
    directorySize += CENTRAL_SIZE + bytes.length;
  }
  if (offset + directorySize > MOST || entries.length > MOST_ENTRIES) {
    throw new RangeError(`a ZIP archive holds up to ${MOST} bytes. Received: ${offset + directorySize}`);
  }
  const count = entries.length;
  const end = packed(
    [4, END],
    [2, 0],
    [2, 0],
    [2, count],
    [2, count],
    [4, directorySize],
    [4, offset],
    [2, 0],
  );
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** @param {Blob} archive @param {number} from @param {number} size */
const viewOf = async (archive, from, size) =>
  new DataView(await archive.slice(from, from + size).arrayBuffer());

/**
 * @typedef {{name: string, method: number, crc: number, size: number, at: number}} Found `at`: its local
 *   header
 */

/**
 * The entries of the directory at the end; null if there is none.
 *
 * @param {Blob} archive
 * @returns {Promise<Found[] | null>}
 */
async function fromDirectory(archive) {
  const start = Math.max(0, archive.size - END_SIZE - MOST_ENTRIES); // a comment may follow
  const tail = await viewOf(archive, start, archive.size - start);
  let end = tail.byteLength - END_SIZE;
  while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
  if (end < 0) return null;
  const size = tail.getUint32(end + 12, true);
  const directory = await viewOf(archive, tail.getUint32(end + 16, true), size);
  const found = [];
  for (let at = 0; at + CENTRAL_SIZE <= directory.byteLength;) {
    if (directory.getUint32(at, true) !== CENTRAL) return null;
    const [name, extra, comment] = [28, 30, 32].map((place) => directory.getUint16(at + place, true));
    found.push({
      name: new TextDecoder().decode(new Uint8Array(directory.buffer, at + CENTRAL_SIZE, name)),
      method: directory.getUint16(at + 10, true),
      crc: directory.getUint32(at + 16, true),
      size: directory.getUint32(at + 20, true),
      at: directory.getUint32(at + 42, true),
    });
    at += CENTRAL_SIZE + name + extra + comment;
  }
  return found;
}

/** The entries in sequence, up to where the archive was truncated. @param {Blob} archive */
async function fromStart(archive) {
  /** @type {Found[]} */
  const found = [];
  for (let at = 0; at + LOCAL_SIZE <= archive.size;) {
    const header = await viewOf(archive, at, LOCAL_SIZE);
    if (header.getUint32(0, true) !== LOCAL || header.getUint16(6, true) & LATER) break;
    const [name, extra] = [26, 28].map((place) => header.getUint16(place, true));
    const size = header.getUint32(18, true);
    const text = await archive.slice(at + LOCAL_SIZE, at + LOCAL_SIZE + name).arrayBuffer();
    const [method, crc] = [header.getUint16(8, true), header.getUint32(14, true)];
    found.push({ name: new TextDecoder().decode(text), method, crc, size, at });
    at += LOCAL_SIZE + name + extra + size;
  }
  return found;
}

/** @param {Blob} archive @param {Found} entry @returns {Promise<Blob | null>} null if it is damaged */
async function contentOf(archive, { at, size, method, crc }) {
  if (at + LOCAL_SIZE > archive.size) return null;
  const header = await viewOf(archive, at, LOCAL_SIZE);
  if (header.getUint32(0, true) !== LOCAL) return null;
  const from = at + LOCAL_SIZE + header.getUint16(26, true) + header.getUint16(28, true);
  let content = archive.slice(from, from + size);
  if (content.size !== size) return null;
  try {
    if (method === 8) {
      const stream = content.stream().pipeThrough(new DecompressionStream("deflate-raw"));
      content = await new Response(stream).blob();
    } else if (method !== 0) return null;
    return (await crc32(content)) === crc ? content : null;
  } catch {
    return null;
  }
}

/** Whether a file starts with an archive's signature. @param {Blob} file */
export const isArchive = async (file) =>
  file.size >= 4 && (await viewOf(file, 0, 4)).getUint32(0, true) === LOCAL;

/**
 * @param {Blob} archive
 * @returns {Promise<Map<string, () => Promise<Blob | null>>>} by name, functions that read the content and
 *   verify its checksum; null for a damaged one
 */
export async function unpack(archive) {
  const found = (await fromDirectory(archive)) ?? (await fromStart(archive));
  return new Map(found.map((entry) => [entry.name, () => contentOf(archive, entry)]));
}

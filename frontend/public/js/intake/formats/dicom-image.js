// @ts-check
/**
 * Decodes a DICOM photograph for viewing and printing: its first frame, if it is uncompressed RGB or a JPEG
 * that the browser decodes. The file itself is what is sent. Only the pixels and their format are read here.
 */

import { Dicom, IMPLICIT, JPEGS, PIXELS, elementsOf, piecesOf } from "./dicom.js";
import { blankJpeg } from "./jpeg.js";
import { joined, latin } from "./parts.js";

const EXPLICIT = "1.2.840.10008.1.2.1";
const MOST_PIXELS = 60_000_000;
const TAG = /** @type {const} */ ({
  samples: 0x00280002,
  colours: 0x00280004,
  planar: 0x00280006,
  rows: 0x00280010,
  columns: 0x00280011,
  bits: 0x00280100,
});
const HEAD = 4_096; // bytes in which a JPEG states its colour space

/** @typedef {{samples: number, planar: number, rows: number, columns: number, bits: number}} Numbers */

/**
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>} rejects if its pixels are stored in another way
 */
export async function dicomBitmap(file) {
  const dicom = new Dicom(new Uint8Array(await file.arrayBuffer()));
  let syntax = "";
  let colours = "";
  /** @type {Record<string, number>} */
  const found = { planar: 0 };
  for (const { element, end } of elementsOf(dicom, (told) => (syntax = told))) {
    const { tag, value, length } = element;
    if (tag === TAG.colours) colours = latin(dicom.bytes, value, length ?? 0).trim();
    else if (tag === PIXELS && JPEGS.includes(syntax) && length === null)
      return createImageBitmap(
        new Blob([/** @type {BlobPart} */ (withColours(firstFrame(dicom, value, end), colours))]),
      );
    else if (tag === PIXELS && [EXPLICIT, IMPLICIT].includes(syntax) && colours === "RGB")
      return createImageBitmap(imageOf(dicom.bytes.subarray(value, end), /** @type {Numbers} */ (found)));
    const name = Object.entries(TAG).find(([, known]) => known === tag)?.[0];
    if (name && tag !== TAG.colours) found[name] = dicom.view.getUint16(value, dicom.little);
  }
  throw new TypeError("only uncompressed RGB and JPEG are shown here");
}

/** @param {Uint8Array} stored @param {Numbers} numbers */
function imageOf(stored, { samples, planar, rows, columns, bits }) {
  const size = rows * columns;
  if (samples !== 3 || bits !== 8 || size > MOST_PIXELS || stored.length < 3 * size)
    throw new TypeError("three samples of 8 bits are shown here");
  const image = new ImageData(columns, rows);
  const [step, plane] = planar ? [1, size] : [3, 1];
  for (let pixel = 0; pixel < size; pixel++) {
    for (let sample = 0; sample < 3; sample++)
      image.data[4 * pixel + sample] = stored[pixel * step + sample * plane];
    image.data[4 * pixel + 3] = 255;
  }
  return image;
}

/** @param {Dicom} dicom @param {number} start @param {number} end */
function firstFrame(dicom, start, end) {
  /** @type {Uint8Array[]} */
  const pieces = [];
  for (const [from, to] of piecesOf(dicom, start, end)) {
    pieces.push(dicom.bytes.subarray(from, to));
    if (latin(dicom.bytes, Math.max(from, to - 4), Math.min(4, to - from)).includes("\xff\xd9")) break;
  }
  return joined(pieces);
}

/**
 * A JPEG without its metadata, including the EXIF orientation, which does not apply to DICOM images. If it
 * does not state its colour space, that of the DICOM file is added, as in the service.
 *
 * @param {Uint8Array} frame modified in place
 * @param {string} colours
 */
function withColours(frame, colours) {
  blankJpeg(frame);
  const head = latin(frame, 0, HEAD);
  if (head.includes("Adobe") || head.slice(0, 20).includes("JFIF\0")) return frame;
  const adobe = [
    0xff,
    0xee,
    0,
    14,
    0x41,
    0x64,
    0x6f,
    0x62,
    0x65,
    0,
    0x64,
    0,
    0,
    0,
    0,
    Number(colours !== "RGB"),
  ];
  return joined([frame.subarray(0, 2), Uint8Array.from(adobe), frame.subarray(2)]);
}

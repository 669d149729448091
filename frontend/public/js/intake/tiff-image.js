// @ts-check
/**
 * Decodes TIFF 6.0 pictures for browsers that do not: the first page, in 8 or 16 bits, grey, RGB or with a
 * palette, in strips or tiles, uncompressed or packed with LZW, Deflate or PackBits. For viewing, cropping
 * and printing; the file itself is what is sent.
 */

/** @typedef {Map<number, number[]>} Tags */
/**
 * @typedef {{width: number, height: number, samples: number, bits: number, pixels: Uint8ClampedArray}} Plane
 */

const WIDTHS = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];
const TAG = /** @type {const} */ ({
  width: 256,
  height: 257,
  bits: 258,
  compression: 259,
  photometric: 262,
  strips: 273,
  orientation: 274,
  samples: 277,
  rows: 278,
  stripSizes: 279,
  planar: 284,
  predictor: 317,
  palette: 320,
  tileWidth: 322,
  tileHeight: 323,
  tiles: 324,
  tileSizes: 325,
});
const [NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE] = [1, 5, 8, 32773, 32946];
const MOST_PIXELS = 60_000_000;

/** @param {DataView} view @param {boolean} little @returns {Tags} of the first page */
function tagsOf(view, little) {
  /** @type {Tags} */
  const tags = new Map();
  const start = view.getUint32(4, little);
  const count = view.getUint16(start, little);
  for (let at = start + 2; at < start + 2 + 12 * count; at += 12) {
    const type = view.getUint16(at + 2, little);
    const several = view.getUint32(at + 4, little);
    const width = WIDTHS[type] ?? 0;
    if (type !== 1 && type !== 3 && type !== 4) continue; // only integers are needed
    const from = width * several > 4 ? view.getUint32(at + 8, little) : at + 8;
    const read = (/** @type {number} */ place) =>
      width === 1
        ? view.getUint8(place)
        : width === 2
          ? view.getUint16(place, little)
          : view.getUint32(place, little);
    tags.set(
      view.getUint16(at, little),
      Array.from({ length: several }, (_, index) => read(from + index * width)),
    );
  }
  return tags;
}

/** @param {Uint8Array} data @param {number} size of the result */
function unpackBits(data, size) {
  const out = new Uint8Array(size);
  for (let [at, to] = [0, 0]; at < data.length && to < size;) {
    const head = (data[at++] << 24) >> 24;
    if (head >= 0) {
      out.set(data.subarray(at, Math.min(at + head + 1, at + size - to)), to);
      at += head + 1;
      to += head + 1;
    } else if (head !== -128) {
      out.fill(data[at++], to, to + 1 - head);
      to += 1 - head;
    }
  }
  return out;
}

/** LZW as TIFF 6.0 writes it (section 13). @param {Uint8Array} data @param {number} size of the result */
function unpackLzw(data, size) {
  const [CLEAR, END] = [256, 257];
  const out = new Uint8Array(size);
  const starts = new Int32Array(4097);
  const lengths = new Int32Array(4097);
  let [bits, bitCount, width, next, to, previous] = [0, 0, 9, 258, 0, -1];
  for (let at = 0; to < size;) {
    while (bitCount < width && at < data.length) {
      bits = ((bits << 8) | data[at++]) & 0xffffff;
      bitCount += 8;
    }
    if (bitCount < width) break;
    const code = (bits >> (bitCount - width)) & ((1 << width) - 1);
    bitCount -= width;
    if (code === END) break;
    if (code === CLEAR) {
      [width, next, previous] = [9, 258, -1];
      continue;
    }
    const from = to;
    if (code < 256) out[to++] = code;
    else {
      if (code > next || (code === next && previous < 0)) throw new TypeError("the LZW data are damaged");
      const [start, length] = code < next ? [starts[code], lengths[code]] : [previous, from - previous + 1];
      for (let index = 0; index < length && to < size; index += 1) out[to++] = out[start + index];
    }
    if (previous >= 0 && next < 4096) {
      starts[next] = previous;
      lengths[next] = from - previous + 1;
      next += 1;
    }
    previous = from;
    width = next >= 2047 ? 12 : next >= 1023 ? 11 : next >= 511 ? 10 : 9;
  }
  return out;
}

/**
 * @param {Uint8Array} data
 * @param {number} compression
 * @param {number} size
 * @returns {Promise<Uint8Array>}
 */
async function unpack(data, compression, size) {
  if (compression === NONE) return data;
  if (compression === PACKBITS) return unpackBits(data, size);
  if (compression === LZW) return unpackLzw(data, size);
  if (compression !== DEFLATE && compression !== OLD_DEFLATE)
    throw new TypeError(`compression ${compression}`);
  const stream = new Blob([/** @type {BlobPart} */ (data)])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Strips or tiles as rectangles of pixels, row by row. @param {Tags} tags */
function blocksOf(tags) {
  const one = (/** @type {number} */ tag, /** @type {number} */ otherwise) => tags.get(tag)?.[0] ?? otherwise;
  const [width, height] = [one(TAG.width, 0), one(TAG.height, 0)];
  const tiled = tags.has(TAG.tiles);
  const blockWidth = tiled ? one(TAG.tileWidth, 0) : width;
  const blockHeight = tiled ? one(TAG.tileHeight, 0) : Math.min(height, one(TAG.rows, height));
  const places = tags.get(tiled ? TAG.tiles : TAG.strips) ?? [];
  const sizes = tags.get(tiled ? TAG.tileSizes : TAG.stripSizes) ?? [];
  const across = Math.ceil(width / blockWidth);
  return places.map((from, index) => {
    const x = (index % across) * blockWidth;
    const y = Math.floor(index / across) * blockHeight;
    const rows = tiled ? blockHeight : Math.min(blockHeight, height - y);
    return { from, to: from + (sizes[index] ?? 0), x, y, width: blockWidth, rows };
  });
}

/**
 * @param {Uint8Array} data of one block
 * @param {number} row samples per row
 * @param {number} samples
 * @param {number} step
 */
function undoPredictor(data, row, samples, step) {
  for (let start = 0; start + row * step <= data.length; start += row * step) {
    for (let at = samples; at < row; at += 1) data[start + at * step] += data[start + (at - samples) * step];
  }
}

/** Writes a block's pixels as RGBA. @param {Uint8ClampedArray} rgba @param {Tags} tags */
function painter(rgba, tags, /** @type {boolean} */ little) {
  const [width, height] = [tags.get(TAG.width)?.[0] ?? 0, tags.get(TAG.height)?.[0] ?? 0];
  const samples = tags.get(TAG.samples)?.[0] ?? 1;
  const step = (tags.get(TAG.bits)?.[0] ?? 8) / 8;
  const high = step === 2 && little ? 1 : 0; // the upper byte of 16 bits
  const photometric = tags.get(TAG.photometric)?.[0] ?? 1;
  const palette = tags.get(TAG.palette) ?? [];
  const colours = palette.length / 3;
  return (/** @type {Uint8Array} */ data, /** @type {ReturnType<typeof blocksOf>[number]} */ block) => {
    for (let y = 0; y < block.rows && block.y + y < height; y += 1) {
      for (let x = 0; x < block.width && block.x + x < width; x += 1) {
        const from = (y * block.width + x) * samples * step + high;
        const to = 4 * ((block.y + y) * width + block.x + x);
        const value = photometric === 0 ? 255 - data[from] : data[from];
        for (let channel = 0; channel < 3; channel += 1) {
          if (photometric === 3) rgba[to + channel] = palette[channel * colours + value] >> 8;
          else rgba[to + channel] = photometric === 2 ? data[from + channel * step] : value;
        }
        rgba[to + 3] = 255;
      }
    }
  };
}

/**
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>} upright; rejects with a TypeError for unsupported kinds
 */
export async function tiffBitmap(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer);
  const little = view.getUint16(0) === 0x4949;
  if (view.getUint16(2, little) !== 42) throw new TypeError("no TIFF 6.0");
  const tags = tagsOf(view, little);
  const one = (/** @type {number} */ tag, /** @type {number} */ otherwise) => tags.get(tag)?.[0] ?? otherwise;
  const [width, height] = [one(TAG.width, 0), one(TAG.height, 0)];
  const [samples, bits, photometric] = [one(TAG.samples, 1), one(TAG.bits, 1), one(TAG.photometric, 1)];
  const step = bits / 8;
  const known =
    (bits === 8 || (bits === 16 && photometric !== 3)) && photometric <= 3 && one(TAG.planar, 1) === 1;
  const fits =
    width > 0 && height > 0 && width * height <= MOST_PIXELS && samples >= (photometric === 2 ? 3 : 1);
  const predictor = one(TAG.predictor, 1);
  if (!known || !fits || predictor > 2 || (predictor === 2 && bits !== 8))
    throw new TypeError("this kind of TIFF");
  const image = new ImageData(width, height);
  const paint = painter(image.data, tags, little);
  for (const block of blocksOf(tags)) {
    const size = block.width * block.rows * samples * step;
    const data = await unpack(bytes.slice(block.from, block.to), one(TAG.compression, 1), size);
    if (predictor === 2) undoPredictor(data, block.width * samples, samples, step);
    paint(data, block);
  }
  return upright(await createImageBitmap(image), one(TAG.orientation, 1));
}

/** @param {ImageBitmap} bitmap @param {number} orientation of EXIF, 1..8 */
function upright(bitmap, orientation) {
  if (orientation < 2 || orientation > 8) return bitmap;
  const { width, height } = bitmap;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = orientation > 4 ? [height, width] : [width, height];
  const turns = /** @type {Record<number, [number, number, number, number, number, number]>} */ ({
    2: [-1, 0, 0, 1, width, 0],
    3: [-1, 0, 0, -1, width, height],
    4: [1, 0, 0, -1, 0, height],
    5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, height, 0],
    7: [0, -1, -1, 0, height, width],
    8: [0, -1, 1, 0, 0, width],
  });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(...turns[orientation]);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return createImageBitmap(canvas);
}

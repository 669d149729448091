// @ts-check
/** Reads the orientation from an EXIF block, and writes the smallest block with it. */

/**
 * @param {Uint8Array} tiff an EXIF block without its "Exif" prefix
 * @returns {number} 1..8; 1, upright, if none is given
 */
export function orientationOf(tiff) {
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  try {
    const little = view.getUint16(0) === 0x4949;
    const start = view.getUint32(4, little);
    for (let entry = start + 2, left = view.getUint16(start, little); left > 0; left -= 1, entry += 12) {
      if (view.getUint16(entry, little) !== 0x0112) continue;
      const value = view.getUint16(entry + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch {
    // a damaged block has no orientation
  }
  return 1;
}

/** An EXIF block with only the orientation. @param {number} orientation */
export const orientationBlock = (orientation) =>
  Uint8Array.of(
    0x49,
    0x49,
    42,
    0,
    8,
    0,
    0,
    0,
    1,
    0,
    0x12,
    1,
    3,
    0,
    1,
    0,
    0,
    0,
    orientation,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
  );

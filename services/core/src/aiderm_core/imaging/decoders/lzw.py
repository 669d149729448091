"""Counts the samples that LZW codes yield, to check that data are complete where the format has no checksum."""

from __future__ import annotations

TABLE = 4096


def unpacked_length(data: bytes, code_bits: int, *, tiff: bool, most: int) -> int:
    """Returns the number of samples that the codes yield.

    Args:
        data: codes of one image, strip or tile.
        code_bits: bits of a sample; codes start with one bit more.
        tiff: most significant bits first, and codes grow one code earlier, as in TIFF; otherwise as in GIF.
        most: stop after this many samples.

    Raises:
        ValueError: a code is not defined yet.
    """
    clear = 1 << code_bits
    end = clear + 1
    early = 1 if tiff else 0
    lengths = [1] * clear + [0, 0]
    width, fresh, previous = code_bits + 1, True, 0
    held, bits, total = 0, 0, 0
    for byte in data:
        if tiff:
            held = (held << 8 | byte) & 0xFFFFFF
        else:
            held |= byte << bits
        bits += 8
        while bits >= width:
            bits -= width
            if tiff:
                code = held >> bits & (1 << width) - 1
            else:
                code = held & (1 << width) - 1
                held >>= width
            if code == clear:
                del lengths[clear + 2 :]
                width, fresh = code_bits + 1, True
                continue
            if code == end:
                return total
            if fresh:
                if code > clear:
                    raise ValueError(f"code {code} follows a clear code")
                length, fresh = 1, False
            else:
                known = len(lengths)
                if code > known or (code == known and known >= TABLE):
                    raise ValueError(f"code {code} is not known yet")
                length = previous + 1 if code == known else lengths[code]
                if known < TABLE:
                    lengths.append(previous + 1)
                    if known + 1 + early >= 1 << width and width < 12:
                        width += 1
            total += length
            previous = length
            if total > most:
                return total
    return total

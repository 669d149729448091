"""Reads TIFF headers (TIFF 6.0 and BigTIFF): the directory of the full image, checked against the image's size."""

from __future__ import annotations

from dataclasses import dataclass

from aiderm_core.imaging.headers.exif import ORIENTATION, orientation_of
from aiderm_core.imaging.headers.model import BEYOND_THE_END, Header, HeaderError, sized
from aiderm_core.imaging.headers.tiff_directory import Directory, bytes_of, read_directory, values_of

NO_COMPRESSION, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACK_BITS = 1, 5, 7, 8, 32946, 32773
_COMPRESSIONS = {NO_COMPRESSION, 2, 3, 4, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACK_BITS}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
_MAX_PAGES = 100
# Writers use one tile size for all images, so a small image may lie in a larger tile.
_MAX_SPARE_TILE = 512
_REDUCED, _MASK = 1, 4


@dataclass(frozen=True)
class TiffHeader(Header):
    """The page that holds the full image.

    Attributes:
        compression: value of the tag Compression.
        photometric: value of the tag PhotometricInterpretation.
        planar: samples are stored in separate planes.
        extra: kinds of the samples beyond the colours: 0 unspecified, 1 premultiplied alpha, 2 alpha.
        block: width and height of a tile, or of a strip.
        tiled: blocks are tiles.
        blocks: offset and length of each block, plane by plane.
        predictor: 1 none, 2 horizontal differences.
        order: byte order, ``<`` or ``>``.
        tables: quantisation and Huffman tables that all blocks of a JPEG-compressed page share.
        palette: red, green and blue, 0..65535 each.
        options: tags and values of the options of fax compression and of the bit order in a byte.
    """

    compression: int = 1
    photometric: int = 1
    planar: bool = False
    extra: tuple[int, ...] = ()
    block: tuple[int, int] = (0, 0)
    tiled: bool = False
    blocks: tuple[tuple[int, int], ...] = ()
    predictor: int = 1
    order: str = "<"
    tables: bytes = b""
    palette: tuple[int, ...] = ()
    options: tuple[tuple[int, int], ...] = ()


def read(data: bytes) -> TiffHeader:
    """Reads a TIFF file's header; raises HeaderError if it breaks the format or needs unsupported features."""
    directory, pages = _full_image(data)
    width, height = (directory.tags.get(tag, (0,))[0] for tag in (256, 257))
    if width <= 0 or height <= 0:
        raise HeaderError(f"The TIFF header declares {width} x {height} pixels.")
    with sized("TIFF", width, height):
        return _page(data, directory, width, height, pages > 1)


def _page(data: bytes, directory: Directory, width: int, height: int, more: bool) -> TiffHeader:
    tags = directory.tags

    def number(tag: int, default: int = 0) -> int:
        return tags.get(tag, (default,))[0]

    channels, compression, photometric = number(277, 1), number(259, 1), number(262, -1)
    bits, form = tags.get(258, (1,)), tags.get(339, (1,))
    if channels > 6:
        raise HeaderError(f"The TIFF file has {channels} samples a pixel; allowed: at most 6.")
    if set(form) != {1} or len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 12, 16):
        raise HeaderError(
            f"The TIFF file has samples of {bits[0]} bits of sample format {form[0]}; allowed: 8 or 16 bits unsigned."
        )
    if compression not in _COMPRESSIONS:
        raise HeaderError(
            f"The TIFF file is compressed by method {compression}; allowed: none, LZW, deflate, PackBits, fax and JPEG."
        )
    if photometric not in _COLOURS:
        raise HeaderError(f"The TIFF file has colours of kind {photometric}; allowed: grey, RGB, palette, CMYK, YCbCr and Lab.")
    if channels < _COLOURS[photometric]:
        raise HeaderError(f"The TIFF file has {channels} samples a pixel, fewer than its colours need.")
    if photometric == YCBCR and compression != JPEG:
        raise HeaderError("The TIFF file has YCbCr colours without JPEG compression; allowed: RGB, or JPEG compression.")
    if photometric == CMYK and (number(332, 1) != 1 or compression == JPEG):
        raise HeaderError(
            "The TIFF file has inks that cannot be converted faithfully; allowed: uncompressed or LZW CMYK, or RGB."
        )
    if compression == JPEG and bits[0] != 8:
        raise HeaderError(f"The TIFF file has JPEG data of {bits[0]} bits; allowed: 8.")
    planar = number(284, 1) == 2 and channels > 1
    extra = (tags.get(338, ()) + (0,) * channels)[: channels - _COLOURS[photometric]]
    block, tiled = _block(width, height, tags)
    blocks = _blocks(data, directory, width, height, block, tiled, channels if planar else 1)
    return TiffHeader(
        width, height, orientation_of(tags.get(ORIENTATION)), channels, bits[0], bytes_of(data, directory, 34675),
        complete=all(offset + length <= len(data) for offset, length in blocks), more_frames=more,
        compression=compression, photometric=photometric, planar=planar, extra=extra, block=block, tiled=tiled, blocks=blocks,
        predictor=number(317, 1), order=directory.order,
        tables=bytes_of(data, directory, 347) or b"",
        palette=values_of(data, directory, 320, 3 << 16) if photometric == PALETTE else (),
        options=tuple((tag, number(tag)) for tag in (266, 292, 293) if tag in tags),
    )  # fmt: skip


def _full_image(data: bytes) -> tuple[Directory, int]:
    """The first page that is neither a thumbnail nor a mask, and the number of pages found before the search stops."""
    at: int | None = None
    seen: list[Directory] = []
    offsets: set[int] = set()
    while len(seen) < _MAX_PAGES:
        try:
            directory = read_directory(data, at)
        except BEYOND_THE_END:
            if not seen:
                raise
            break
        seen.append(directory)
        at = directory.following
        if not at or at in offsets:
            break
        offsets.add(at)
    for directory in seen:
        if not _reduced(directory):
            return directory, len(seen)
    # Some cameras keep the full image in a subdirectory of the thumbnail's.
    for at in seen[0].tags.get(330, ()):
        try:
            directory = read_directory(data, at)
        except BEYOND_THE_END:
            break
        if not _reduced(directory):
            return directory, len(seen) + 1
    return seen[0], len(seen)


def _reduced(directory: Directory) -> bool:
    return bool(directory.tags.get(254, (0,))[0] & (_REDUCED | _MASK)) or directory.tags.get(255, (1,))[0] == 2


def _block(width: int, height: int, tags: dict[int, tuple[int, ...]]) -> tuple[tuple[int, int], bool]:
    if 322 not in tags and 324 not in tags:
        rows = tags.get(278, (height,))[0]
        if rows < 1:
            raise HeaderError(f"The TIFF file has strips of {rows} rows.")
        return (width, min(rows, height)), False
    across, down = tags.get(322, (0,))[0], tags.get(323, (0,))[0]
    for side, tile in ((width, across), (height, down)):
        if not 1 <= tile <= max(_MAX_SPARE_TILE, side + 15):
            raise HeaderError(f"The TIFF file of {width} x {height} pixels has tiles of {across} x {down}, larger than it is.")
    return (across, down), True


def _blocks(
    data: bytes, directory: Directory, width: int, height: int, block: tuple[int, int], tiled: bool, planes: int
) -> tuple[tuple[int, int], ...]:
    """Offset and length of every strip or tile.

    Raises:
        HeaderError: there are more or fewer than the size implies.
    """
    expected = -(-width // block[0]) * -(-height // block[1]) * planes
    if not 0 < expected <= len(data):
        raise HeaderError("The TIFF file ends before its pixels do.", truncated=True)
    names = (324, 325) if tiled else (273, 279)
    offsets, lengths = (values_of(data, directory, tag, expected) for tag in names)
    if not lengths and expected == len(offsets) == 1:  # old writers leave out the length of a single strip
        lengths = (len(data) - offsets[0],)
    if len(offsets) != expected or len(lengths) != expected:
        raise HeaderError(f"The TIFF file has {len(offsets):,} strips or tiles; its size implies {expected:,}.")
    return tuple(zip(offsets, lengths, strict=True))

"""Fuzz target: the readers of all image headers. Run as ``python -m tests.fuzz.headers [libFuzzer's options] CORPUS``."""

from __future__ import annotations

import struct

import atheris
from PIL import Image
from tests.fuzz.guard import fuzz

with atheris.instrument_imports(include=["aiderm_core.imaging.headers", "aiderm_core.imaging.icc"]):
    from aiderm_core.imaging.headers import HeaderError, read_header
    from aiderm_core.imaging.icc import is_srgb

from tests import dicom_files, hostile_images

from aiderm_core.imaging.cost import decoding_bytes
from aiderm_core.imaging.effort import decoding_seconds
from aiderm_core.imaging.formats import sniff

_NAMES = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "dicom")


def target(data: bytes) -> None:
    """Tests one input: a file or, if its magic bytes are unknown, a byte that selects the format and a file."""
    name = sniff(data)
    if name is None:
        name, data = _NAMES[data[0] % len(_NAMES)] if data else "jpeg", data[1:]
    try:
        header = read_header(data, name)
    except HeaderError:
        return
    if header.width <= 0 or header.height <= 0 or header.orientation not in range(1, 9):
        raise AssertionError(f"odd header {header}")
    if decoding_bytes(header, len(data)) <= 0 or decoding_seconds(header, len(data)) < 0:
        raise AssertionError(f"odd cost of {header}")
    if header.profile is not None:
        is_srgb(header.profile)


def seeds() -> list[bytes]:
    """Small files of all formats with their optional parts, and small hostile ones."""
    image = Image.new("RGB", (120, 110), (90, 60, 30))
    profile = hostile_images.profile_with(b"rTRC", b"curv" + bytes(8))
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, 6, 0)
    saved = hostile_images.saved
    files = [saved(image, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    files += [saved(image, kind, icc_profile=profile, exif=exif) for kind in ("JPEG", "PNG", "WEBP")]
    files += [saved(image, "JPEG", progressive=True), saved(image.convert("CMYK"), "JPEG"), saved(image.convert("P"), "PNG")]
    files += [saved(image, kind, save_all=True, append_images=[image.rotate(90)] * 2) for kind in ("PNG", "WEBP", "GIF", "TIFF")]
    files += [saved(image, "TIFF", compression=kind) for kind in ("jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits")]
    files += [saved(image.convert("RGBA"), kind) for kind in ("PNG", "WEBP", "TIFF", "BMP")]
    files += [hostile_images.bmp_with_run_lengths(), hostile_images.big_tiff_beyond_everything(), hostile_images.exif_loop()]
    files += dicom_files.corpus()
    hostile = [hostile_images.ALL[name] for name in ("tiff of a tile", "exif that leads back", "profile of a table")]
    return files + [make() for make in hostile]


if __name__ == "__main__":
    fuzz(target, seeds())

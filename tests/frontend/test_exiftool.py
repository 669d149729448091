"""All metadata that ExifTool can write into a picture is removed before it is sent."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from aiderm_core.imaging.decode import decode_image

pytestmark = [pytest.mark.browser, pytest.mark.ci]
SECRET = "Ada Lovelace"
# The secret in the encodings in which ExifTool writes text.
TRACES = [text.encode(code) for text in (SECRET, "Lovelace") for code in ("utf-8", "utf-16-le", "utf-16-be")]
GROUPS = [
    "EXIF",
    "GPS",
    "XMP",
    "IPTC",
    "Photoshop",
    "PNG",
    "GIF",
    "Ducky",
    "JFIF",
    "MIE",
    "CanonVRD",
    "PhotoMechanic",
    "AFCP",
]
# Tags whose type does not allow the secret: numbers, dates, places.
VALUES = {
    "GPSLatitude": "52.5", "GPSLongitude": "13.4", "GPSLatitudeRef": "N", "GPSLongitudeRef": "E", "GPSAltitude": "34",
    "GPSDateStamp": "2024:05:01", "GPSTimeStamp": "10:00:00", "DateTimeOriginal": "2024:05:01 10:00:00",
    "CreateDate": "2024:05:01 10:00:00", "ModifyDate": "2024:05:01 10:00:00", "DateCreated": "2024:05:01",
    "TimeCreated": "10:00:00", "SerialNumber": SECRET, "FocalLength": "50", "ISO": "100", "ExposureTime": "1/60",
}  # fmt: skip
# Groups, by ExifTool's names, that a sent file may have: structure, orientation, colours, and what it reports for any file.
ALLOWED = {
    "ExifTool",
    "System",
    "File",
    "Composite",
    "JFIF",
    "RIFF",
    "ICC-header",
    "ICC_Profile",
    "GIF",
    "PNG",
    "PNG-pHYs",
    "IFD0",
    "Adobe",
    "APP14",
}
ALLOWED_TAGS = {
    "IFD0": {
        "JPEGTables",
        "PreviewImage",  # ExifTool's name for strips that are JPEG streams
        "SubfileType",
        "ImageWidth",
        "ImageHeight",
        "BitsPerSample",
        "Compression",
        "PhotometricInterpretation",
        "StripOffsets",
        "Orientation",
        "SamplesPerPixel",
        "RowsPerStrip",
        "StripByteCounts",
        "XResolution",
        "YResolution",
        "PlanarConfiguration",
        "ResolutionUnit",
        "ExtraSamples",
        "SampleFormat",
        "Predictor",
        "PreviewImageStart",
        "PreviewImageLength",
        "TileWidth",
        "TileLength",
        "TileOffsets",
        "TileByteCounts",
        "YCbCrPositioning",
    },
    "ICC_Profile": {
        "ProfileDescription",
        "MediaWhitePoint",
        "ChromaticAdaptation",
        "RedMatrixColumn",
        "GreenMatrixColumn",
        "BlueMatrixColumn",
        "RedTRC",
        "GreenTRC",
        "BlueTRC",
        "MediaBlackPoint",
    },
    "PNG": {
        "ImageWidth",
        "ImageHeight",
        "BitDepth",
        "ColorType",
        "Compression",
        "Filter",
        "Interlace",
        "ProfileName",
        "SRGBRendering",
        "Gamma",
    },
    "GIF": {
        "GIFVersion",
        "ImageWidth",
        "ImageHeight",
        "HasColorMap",
        "ColorResolutionDepth",
        "BitsPerPixel",
        "BackgroundColor",
        "AnimationIterations",
        "FrameCount",
        "Duration",
        "TransparentColor",
    },
}


def exiftool(*arguments: str | Path) -> str:
    """Runs ExifTool; warnings about single tags are ignored."""
    program = shutil.which("exiftool")
    if program is None:
        message = "ExifTool is missing: install it with `sudo apt-get install libimage-exiftool-perl`"
        if os.environ.get("AIDERM_REQUIRE_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, errors="replace").stdout


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ExifTool arguments that set every writable tag to a secret."""
    lines = []
    for group in GROUPS:
        listed = exiftool("-listw", f"-{group}:all").split()
        names = [name for name in listed if re.fullmatch(r"[A-Za-z][\w-]*", name)]
        lines += [f"-{group}:{name}={VALUES.get(name, SECRET)}" for name in names]
    assert len(lines) > 500
    # whole blocks, and metadata that is not a tag
    folder = tmp_path_factory.mktemp("blocks")
    thumbnail = folder / "thumbnail.jpg"
    Image.new("RGB", (60, 40), (200, 30, 30)).save(thumbnail, comment=SECRET.encode())
    lines += [f"-ThumbnailImage<={thumbnail}", f"-Photoshop:PhotoshopThumbnail<={thumbnail}", f"-PreviewImage<={thumbnail}"]
    lines += [f"-Comment={SECRET}", "-EXIF:Orientation#=6"]
    path = folder / "arguments"
    path.write_text("\n".join(line for line in lines if not line.startswith("-EXIF:Orientation=")))
    return path


def profile() -> bytes:
    """An sRGB profile that names its manufacturer and creator."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in (48, 52, 80):
        data[at : at + 4] = b"ADA!"
    return bytes(data)


def saved(kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 255, (112, 160, 3), np.uint8)
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    (image.quantize(64) if kind == "GIF" else image).save(file, kind, icc_profile=profile(), **options)
    return file.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "jpg": lambda: saved("JPEG", quality=90),
    "png": lambda: saved("PNG"),
    "webp": lambda: saved("WEBP", lossless=True),
    "gif": lambda: saved("GIF"),
    "tif": lambda: saved("TIFF"),
    "lzw.tif": lambda: saved("TIFF", compression="tiff_lzw"),
    "jpeg.tif": lambda: saved("TIFF", compression="jpeg"),
    "big.tif": lambda: saved("TIFF", big_tiff=True),
}


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_of_it_is_left(stripped: Callable[[bytes], bytes], arguments: Path, tmp_path: Path, name: str) -> None:
    picture = tmp_path / f"picture.{name}"
    picture.write_bytes(FORMATS[name]())
    if name == "jpeg.tif":
        # here ExifTool takes the pixels for a preview and would replace them
        kept = [line for line in arguments.read_text().splitlines() if "PreviewImage" not in line]
        arguments = tmp_path / "arguments"
        arguments.write_text("\n".join(kept))
    exiftool("-m", "-overwrite_original", "-@", arguments, picture)
    before = picture.read_bytes() + SECRET.encode()  # also after the end of the picture
    assert sum(before.count(trace) for trace in TRACES) > (1 if name in ("gif", "big.tif") else 50)
    after = stripped(before)
    assert [trace for trace in (*TRACES, b"ADA!") if trace in after] == []
    picture.write_bytes(after)
    left = json.loads(exiftool("-j", "-a", "-G1", "-u", picture))[0]
    for key in left:
        group, _, tag = key.rpartition(":")
        if group == "":
            continue
        assert group in ALLOWED, key
        assert group not in ALLOWED_TAGS or tag in ALLOWED_TAGS[group], key
    # the picture is unchanged, including colours and orientation
    one, other = decode_image(before[: -len(SECRET)]), decode_image(after)
    assert np.array_equal(one.pixels, other.pixels)
    assert one.notes == other.notes


def test_bmp_keeps_its_pixels_and_nothing_else(stripped: Callable[[bytes], bytes]) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (97, 161, 3), np.uint8)).save(file, "BMP")
    before = file.getvalue() + SECRET.encode()
    after = stripped(before)
    assert after == file.getvalue()

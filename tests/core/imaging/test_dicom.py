"""DICOM photographs: every encoding and colour space decodes to the right pixels, and no error message contains a value."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless
from tests import dicom_files as files

from aiderm_core.imaging.decode import decode_image, plan
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.icc import gamma_profile
from aiderm_core.imaging.limits import Limits

PIXELS = files.sample()
HEIGHT, WIDTH = PIXELS.shape[:2]
KINDS = files.kinds(PIXELS)
JPEGS = files.jpegs(PIXELS)
RAW = PIXELS.tobytes()


def file(**changes: Any) -> bytes:
    return files.photograph(RAW, WIDTH, HEIGHT, **changes)


@pytest.mark.parametrize("name", KINDS)
def test_the_pixels_are_those_of_the_image(name: str) -> None:
    image = decode_image(KINDS[name])
    expected = files.coloured(PIXELS) if "palette" in name else PIXELS
    difference = np.abs(image.pixels.astype(int) - expected)
    # 8-bit YCbCr rounds, and 4:2:2 averages the chroma of neighbours.
    assert difference.max() <= (24 if "4:2:2" in name else 3 if "ybr" in name else 0)
    assert difference.mean() < 2
    assert (image.format, image.width, image.height) == ("dicom", WIDTH, HEIGHT)
    assert image.spacing == (0.025, 0.025)
    assert image.notes == (("first_frame",) if "frames" in name else ())


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_is_what_it_is_outside(name: str) -> None:
    image = decode_image(JPEGS[name])
    expected = decode_image(files.jpeg(PIXELS, keep_rgb=True) if name == "jpeg rgb" else files.jpeg(PIXELS)).pixels
    assert np.array_equal(image.pixels, expected)


def test_a_large_jpeg_is_decoded_at_the_same_scale_as_outside() -> None:
    stream = files.jpeg(files.sample(1200, 1000))
    inside = files.encapsulated(stream, syntax=JPEGBaseline8Bit, colours="YBR_FULL")(1200, 1000)
    assert plan(inside, size=96).scale == plan(stream, size=96).scale == 2
    assert np.array_equal(decode_image(inside, size=96).pixels, decode_image(stream, size=96).pixels)


def test_a_profile_is_applied() -> None:
    profile = gamma_profile(1 / 1.8, None)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", icc_profile=profile)
    image = decode_image(file(ICCProfile=profile))
    assert image.notes == ("icc_converted",)
    assert np.array_equal(image.pixels, decode_image(buffer.getvalue()).pixels)


def test_spacing_comes_from_functional_groups_too_and_may_be_missing() -> None:
    from pydicom.dataset import Dataset

    measures, groups = Dataset(), Dataset()
    measures.PixelSpacing = [0.05, 0.04]
    groups.PixelMeasuresSequence = [measures]
    assert decode_image(file(PixelSpacing=None, SharedFunctionalGroupsSequence=[groups])).spacing == (0.05, 0.04)
    assert decode_image(file(PixelSpacing=None)).spacing is None
    assert decode_image(file(PixelSpacing=[0, 1])).spacing is None


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "monochrome": (files.photograph(PIXELS[..., 0].tobytes(), WIDTH, HEIGHT, colours="MONOCHROME2"), "undecodable", "monochrome"),
    "deep": (file(BitsAllocated=16, BitsStored=12), "undecodable", "samples of 12 bits"),
    "unknown colours": (file(PhotometricInterpretation="HSV"), "undecodable", "other colours"),
    "no size": (file(Rows=None), "undecodable", "lacks a number in tag (0028,0010)"),
    "too small": (file(Rows=50), "too_small", "150 x 50"),
    "too large": (file(Rows=60_000, Columns=60_000), "too_many_pixels", "60000 x 60000"),
    "too few bytes": (file(NumberOfFrames=2), "truncated", "fewer bytes"),
    "no palette": (
        files.photograph(PIXELS[..., 0].tobytes(), WIDTH, HEIGHT, colours="PALETTE COLOR"), "undecodable", "lacks its palette"
    ),
    "other coding": (
        files.encapsulated(b"\0\0", syntax=JPEGLSLossless)(WIDTH, HEIGHT), "undecodable", "JPEG 2000"
    ),
    "other size": (
        files.encapsulated(files.jpeg_2000(files.sample(104, 104)), syntax=JPEG2000Lossless)(WIDTH, HEIGHT),
        "undecodable",
        "measure 104 x 104",
    ),
    "cut": (file()[:-500], "truncated", "ends inside tag (7FE0,0010)"),
    "cut jpeg": (
        files.encapsulated(files.jpeg(PIXELS)[:-900], syntax=JPEGBaseline8Bit, colours="YBR_FULL")(WIDTH, HEIGHT),
        "truncated", "incomplete",
    ),
    "cut jpeg 2000": (
        files.encapsulated(files.jpeg_2000(PIXELS)[:-900] + b"\xff\xd9", syntax=JPEG2000Lossless)(WIDTH, HEIGHT),
        "undecodable", "cannot be decoded",
    ),
    "cut rle": (KINDS["rle"][:-300] + files.END, "truncated", "ends inside"),
    "nested": (files.nested(40), "undecodable", "nests more than 16"),
    "no image": (file()[: file().index(b"\xe0\x7f\x10\x00")], "undecodable", "holds no image"),
    "deflated": (files.deflated(), "undecodable", "deflated"),
    "many elements": (files.HOSTILE["dicom of elements"](), "undecodable", "more than 5,000 elements"),
    "bad value": (file().replace(b"0.025\\0.025 ", b"x" * 12).replace(b"RGB ", b"\xff\xff\xff\xff"), "undecodable", "colours"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_tags_and_no_values(name: str) -> None:
    data, code, text = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.code == code
    assert text in caught.value.detail
    assert not [secret for secret in files.SECRETS.values() if secret in caught.value.detail]


def test_few_nested_sequences_are_read() -> None:
    assert decode_image(files.nested(12)).format == "dicom"


def test_the_preamble_may_belong_to_another_format() -> None:
    data = b"II*\0" + file()[4:]
    assert decode_image(data, Limits()).format == "dicom"

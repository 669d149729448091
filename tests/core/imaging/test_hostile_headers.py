"""Headers of hostile images are read quickly, and data after the last pixel is never decompressed."""

from __future__ import annotations

import time

import pytest
from tests import hostile_images

from aiderm_core.imaging.decode import decode_image, plan
from aiderm_core.imaging.errors import ImageError


@pytest.mark.parametrize(
    "name",
    [
        "gif of comments behind",
        "jpeg of fill bytes",
        "jpeg of markers",
        "tiff of pages that lead back",
        "dicom of elements",
        "dicom nested",
    ],
)
def test_a_header_of_megabytes_takes_no_time(name: str) -> None:
    data = hostile_images.make(name)
    start = time.thread_time()
    try:
        plan(data)
    except ImageError as error:
        assert error.code in ("undecodable", "truncated")  # noqa: PT017
    assert time.thread_time() - start < 0.1  # CPU time; each of them once took up to six times as long


def test_data_behind_the_last_pixel_of_a_png_is_not_unpacked() -> None:
    small, large = hostile_images.make("png unfolds"), hostile_images.make("png unfolds behind many pixels")
    start = time.thread_time()
    assert decode_image(small).format == "png"
    with pytest.raises(ImageError, match="more data than its size implies"):
        decode_image(large)
    assert time.thread_time() - start < 0.4  # CPU time; decompressing 450 megabytes took a second

"""Decoding in separate processes: a slow image is stopped at its deadline, memory is limited, and the pixels are the same."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from tests import hostile_images

from aiderm_core.imaging.decode import decode_image, decoding, plan
from aiderm_core.imaging.effort import QUICK_SECONDS
from aiderm_core.imaging.errors import DecodeTimeoutError, ImageError
from aiderm_core.imaging.limits import Limits
from aiderm_core.imaging.processes import DecoderProcesses, shared


def large(extension: str) -> bytes:
    """An image that is too slow to be decoded in this process."""
    pixels = hostile_images.soft(3000, 2200)
    if extension == ".jpg":
        return hostile_images.opencv(extension, np.tile(pixels, (2, 2, 1)), cv2.IMWRITE_JPEG_QUALITY, 75)
    return hostile_images.opencv(extension, pixels, *([cv2.IMWRITE_PNG_COMPRESSION, 1] if extension == ".png" else []))


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp"])
def test_large_images_of_every_common_format_stop_at_the_deadline(extension: str) -> None:
    data = large(extension)
    assert plan(data, size=224).apart
    shared().close()
    with pytest.raises(DecodeTimeoutError), decoding(data, size=224, deadline=time.monotonic() + 0.05):
        pass
    assert shared()._free == []  # its process has ended


def test_a_process_gives_the_same_pixels() -> None:
    data = large(".png")
    shared().close()  # other tests may have left processes
    with decoding(data, size=224, deadline=time.monotonic() + 60) as apart:
        assert apart.pixels.size
    assert len(shared()._free) == 1
    here = decode_image(data, size=224)
    assert np.array_equal(apart.pixels, here.pixels)
    assert apart.info == here.info


def test_small_images_stay_in_the_process() -> None:
    for name in ("jpeg of segments", "png of empty chunks"):
        with pytest.raises(ImageError):
            plan(hostile_images.make(name))
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        planned = plan(hostile_images.encoded("RGB", 1200, 900, kind), size=224)
        assert not planned.apart
        assert planned.seconds < QUICK_SECONDS


@pytest.mark.ci
@pytest.mark.parametrize("name", sorted(hostile_images.LEGAL))
def test_no_costly_image_is_decoded_in_the_process(name: str) -> None:
    assert plan(hostile_images.make(name), size=224).apart


def test_a_process_gets_little_more_memory_than_the_image_costs() -> None:
    processes = DecoderProcesses(most=1)
    data = hostile_images.encoded("L", 7000, 7000, "GIF")  # its 49 megapixels take more than 200 MB
    try:
        with pytest.raises(ImageError, match=r"memory|cannot") as refused:
            processes.decode(data, Limits(), None, 1_000_000, time.monotonic() + 60)
        assert refused.value.code in ("undecodable", "truncated")
        small = hostile_images.encoded("L", 300, 200, "GIF")
        assert processes.decode(small, Limits(), None, 1_000_000, None).pixels.shape == (200, 300, 3)
    finally:
        processes.close()

"""Files that other programs get wrong: they decode as in a colour-managed viewer, or are refused with the right code."""

from __future__ import annotations

import io
import os
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import DecodeTimeoutError, ImageError
from aiderm_core.imaging.icc import gamma_profile
from aiderm_core.imaging.limits import Limits
from aiderm_core.imaging.processes import DecoderProcesses

SHARED = Path(os.environ.get("AIDERM_SHARED", "../shared")) / "cases"
REFUSED = {
    "hole_in_scan.jpg": "truncated",
    "half_scan_with_eoi.jpg": "truncated",
    "jpeg_ycc.tif": "undecodable",
}
needs_cases = pytest.mark.skipif(not SHARED.exists(), reason="the collection of files is not here")


def names() -> list[str]:
    folder = SHARED / "images"
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".truth.png")) if folder.exists() else []


def lesion(width: int, height: int) -> Image.Image:
    """Skin with structure at several scales and a little noise."""
    rng = np.random.default_rng(1)
    layers = [cv2.resize(rng.normal(0, 25, (n, n, 3)).astype(np.float32), (width, height)) for n in (4, 16, 64)]
    return Image.fromarray(np.clip(150 + sum(layers) + rng.normal(0, 3, (height, width, 3)), 0, 255).astype(np.uint8))


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def outcome(data: bytes) -> np.ndarray | str:
    try:
        return decode_image(data).pixels
    except ImageError as error:
        return error.code


@needs_cases
@pytest.mark.parametrize("name", names())
def test_collected_files(name: str) -> None:
    found = outcome((SHARED / "images" / name).read_bytes())
    if name in REFUSED:
        assert isinstance(found, str)
        assert found == REFUSED[name]
        return
    assert not isinstance(found, str), found
    truth = np.asarray(Image.open(SHARED / "images" / f"{name}.truth.png").convert("RGB")).astype(int)
    difference = np.abs(found.astype(int) - truth)
    if name.endswith(".jpg"):
        assert difference.mean() <= 2  # lossy compression makes them differ from the true pixels
    else:
        assert difference.max() <= 4


@needs_cases
def test_tiny_file_with_a_huge_tile_costs_nothing() -> None:
    before = int(Path("/proc/self/statm").read_text().split()[1])
    with pytest.raises(ImageError, match="26752 x 26752"):
        decode_image((SHARED / "hostile/tiff_tile_26752_lzw").read_bytes())
    assert (int(Path("/proc/self/statm").read_text().split()[1]) - before) * 4096 < 5_000_000


VARIANTS = {
    "jpeg": ("JPEG", {"quality": 90}),
    "jpeg restart": ("JPEG", {"quality": 90, "restart_marker_rows": 1}),
    "jpeg progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 85}),
    "webp lossless": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}


@pytest.mark.parametrize("filling", [0, 255])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_destroyed_block_is_refused_or_changes_nothing(name: str, filling: int) -> None:
    form, options = VARIANTS[name]
    data = encode(lesion(600, 450), form, **options)
    whole = outcome(data)
    assert not isinstance(whole, str), whole
    for tenth in range(10):
        at = max(512, len(data) * tenth // 10)  # before that are colour tables, which no format protects
        damaged = data[:at] + bytes([filling]) * 512 + data[at + 512 :]
        found = outcome(damaged)
        assert isinstance(found, str) or np.array_equal(found, whole), f"block at {at} of {len(data)}"


@pytest.mark.parametrize(("gamma", "exponent"), [(1.0, 1.0), (0.55, 1 / 0.55)], ids=["linear", "gamma 1.8"])
def test_gamma_of_a_png_decides(gamma: float, exponent: float) -> None:
    ramp = np.repeat(np.arange(0, 256, dtype=np.uint8), 2)[None, :, None].repeat(120, 0).repeat(3, 2)
    plain = encode(Image.fromarray(ramp), "PNG")
    body = b"gAMA" + struct.pack(">I", round(gamma * 100_000))
    import zlib

    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    light = (ramp / 255.0) ** exponent
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    found = decode_image(plain[:33] + chunk + plain[33:])
    assert np.abs(found.pixels - expected).max() <= 2
    assert found.notes == ("icc_converted",)
    usual = body.replace(struct.pack(">I", round(gamma * 100_000)), struct.pack(">I", 45455))
    chunk = struct.pack(">I", 4) + usual + struct.pack(">I", zlib.crc32(usual))
    assert np.array_equal(decode_image(plain[:33] + chunk + plain[33:]).pixels, ramp)


def test_the_name_of_a_profile_decides_nothing() -> None:
    linear = gamma_profile(1.0, None)
    assert linear is not None
    named = linear.replace("gAMA and cHRM".encode("utf-16-be"), "sRGB and more".encode("utf-16-be"))
    assert named != linear
    image = Image.fromarray(np.full((120, 120, 3), 64, np.uint8))
    assert int(decode_image(encode(image, "PNG", icc_profile=named)).pixels[0, 0, 0]) == pytest.approx(137, abs=2)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode_image(encode(image, "PNG", icc_profile=srgb)).pixels, np.asarray(image))


def test_a_decode_that_overruns_is_stopped_with_its_process() -> None:
    processes = DecoderProcesses(most=1)
    data = encode(lesion(300, 200), "GIF")
    try:
        assert processes.decode(data, Limits(), None, 10_000_000, None).pixels.shape == (200, 300, 3)
        child = processes._free[0]._child
        with pytest.raises(DecodeTimeoutError):
            processes.decode(data, Limits(), None, 10_000_000, time.monotonic() + 0.002)
        assert child.poll() is not None
        assert processes.decode(data, Limits(), None, 10_000_000, None).pixels.shape == (200, 300, 3)
    finally:
        processes.close()


def test_a_decoder_that_dies_costs_one_image() -> None:
    processes = DecoderProcesses(most=1)
    data = encode(lesion(300, 200), "GIF")
    try:
        processes.decode(data, Limits(), None, 10_000_000, None)
        processes._free[0]._child.kill()
        with pytest.raises(ImageError, match="a decoder cannot take"):
            processes.decode(data, Limits(), None, 10_000_000, None)
        assert processes.decode(data, Limits(), None, 10_000_000, None).pixels.shape == (200, 300, 3)
    finally:
        processes.close()


def test_one_process_only_when_it_is_needed() -> None:
    from aiderm_core.imaging.processes import shared

    shared().close()
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        decode_image(encode(lesion(300, 200), form))
    assert shared()._free == []

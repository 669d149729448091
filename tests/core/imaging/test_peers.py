"""Compares the pixels of generated files with Pillow, with colour management, and with libvips."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from tests.core.imaging.peer_images import PeerImage, peer_image

from aiderm_core.imaging.decode import decode_image

TOLERANCE = 4
"""Largest difference of a sample, of 255: what rounding in two steps and two colour engines differ by."""
QUICK, MANY = 100, 1000


def ours(file: PeerImage) -> np.ndarray:
    return decode_image(file.data).pixels.astype(int)


def of_pillow(file: PeerImage) -> np.ndarray:
    image = Image.open(io.BytesIO(file.data))
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return ((np.asarray(image).astype(int) + 128) // 257)[..., np.newaxis].repeat(3, -1)
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return np.asarray(ImageCms.applyTransform(image, transform)).astype(int)
    if image.mode == "CMYK":
        return np.asarray(image.convert("RGB")).astype(int)
    rgba = image.convert("RGBA")
    colours = rgba.convert("RGB")
    if profile:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colours, source, target, ImageCms.Intent.RELATIVE_COLORIMETRIC)
        assert converted is not None
        colours = converted
    return on_white(np.asarray(colours), np.asarray(rgba)[..., 3])


def of_vips(file: PeerImage, folder: Path) -> np.ndarray:
    source, converted, target = folder / "in", folder / "converted.v", folder / "out.png"
    source.write_bytes(file.data)
    if file.profile != "none":
        run_vips("icc_transform", source, converted, "srgb", "--embedded", "--intent", "relative")
    else:
        run_vips("colourspace", source, converted, "rgb16" if "16 bits" in file.name else "srgb")
    run_vips("autorot", converted, target)
    pixels = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(int) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else np.full(pixels.shape[:2], 255)
    return on_white(pixels[..., 2::-1], alpha)


def run_vips(*arguments: str | Path) -> None:
    subprocess.run(["vips", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha[..., np.newaxis] / 255
    return np.round(colours * opacity + 255 * (1 - opacity)).astype(int)


def differences(numbers: range, folder: Path | None) -> list[str]:
    """Describes the files whose pixels differ from Pillow's, or from those of libvips if a folder for its files is given."""
    found = []
    for number in numbers:
        file = peer_image(number)
        if folder is not None and not vips_shows_it_as_meant(file):
            continue
        peer = of_pillow(file) if folder is None else of_vips(file, folder)
        pixels = ours(file)
        if pixels.shape != peer.shape:
            found.append(f"{file.name}: {pixels.shape} against {peer.shape}")
        elif np.abs(pixels - peer).max() > TOLERANCE:
            found.append(f"{file.name}: {np.abs(pixels - peer).max()} of 255, mean {np.abs(pixels - peer).mean():.2f}")
    return found


def vips_shows_it_as_meant(file: PeerImage) -> bool:
    """Whether libvips shows the file correctly: not BMP, which it cannot read; not CMYK without a profile, for which it assumes
    its own; not CIELAB, for which it assumes D65, while Little CMS and Photoshop assume the D50 of profiles."""
    return file.mode not in ("CMYK", "LAB") and not file.data.startswith(b"BM")


def test_pixels_are_those_of_pillow() -> None:
    assert differences(range(QUICK), None) == []


@pytest.mark.ci
def test_pixels_are_those_of_libvips(tmp_path: Path) -> None:
    needs_vips()
    assert differences(range(QUICK), tmp_path) == []


@pytest.mark.soak
def test_many_pixels_are_those_of_pillow() -> None:
    assert differences(range(QUICK, MANY), None) == []


@pytest.mark.soak
def test_many_pixels_are_those_of_libvips(tmp_path: Path) -> None:
    needs_vips()
    assert differences(range(QUICK, MANY), tmp_path) == []


def needs_vips() -> None:
    if shutil.which("vips") is None:
        pytest.skip("needs libvips's command: install libvips-tools")

"""The page sends a DICOM photograph without the patient's data and with the same pixels, and it gets an answer."""

from __future__ import annotations

from base64 import b64decode, b64encode

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from pydicom.uid import JPEGBaseline8Bit
from tests import dicom_files as files

from aiderm_core.imaging.decode import decode_image

pytestmark = pytest.mark.browser
PIXELS = files.sample(200, 150)
SHOWN = """async (encoded) => {
  const { bitmapOf } = await import(new URL('js/intake/bitmap.js', location.href));
  const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
  const bitmap = await bitmapOf(new Blob([bytes])).catch(() => null);
  if (!bitmap) return null;
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  let text = '';
  for (const byte of data) text += String.fromCharCode(byte);
  return { width: bitmap.width, height: bitmap.height, data: btoa(text) };
}"""


def test_only_the_pixels_and_their_description_are_sent(stripped):
    kinds = files.kinds(PIXELS) | files.jpegs(PIXELS)
    for name in (
        "explicit",
        "implicit",
        "big-endian",
        "palette",
        "jpeg 2000 frames",
        "rle",
        "jpeg in pieces",
        "jpeg rgb",
        "jpeg frames",
    ):
        sent = stripped(kinds[name])
        assert np.array_equal(decode_image(sent).pixels, decode_image(kinds[name]).pixels), name
        assert decode_image(sent).spacing == (0.025, 0.025)
        for value in (*files.SECRETS.values(), "1.2.826.0.1"):
            assert value.encode() not in sent, (name, value)
    # nor metadata inside a JPEG frame, even if it continues in the next fragment
    exif = Image.Exif()
    exif[0x010E] = "Zwetschkenbaum " * 900
    for pieces in (1, 4):
        frame = files.jpeg(PIXELS, exif=exif, comment=b"Zwetschkenbaum")
        whole = files.encapsulated(frame, syntax=JPEGBaseline8Bit, pieces=pieces, colours="YBR_FULL_422")(200, 150)
        sent = stripped(whole)
        assert np.array_equal(decode_image(sent).pixels, decode_image(whole).pixels)
        assert b"wetschk" in whole
        assert b"wetschk" not in sent
    nested = stripped(files.nested(12))
    assert len(nested) < len(files.nested(12))
    assert decode_image(nested).format == "dicom"
    cut = stripped(kinds["explicit"][:700])
    assert cut[128:132] == b"DICM"
    assert b"Zwetschkenbaum" not in cut


def test_what_the_browser_can_decode_is_shown_as_the_service_reads_it(page: Page, stripped) -> None:
    for name, data in (files.kinds(PIXELS) | files.jpegs(PIXELS)).items():
        shown = page.evaluate(SHOWN, b64encode(stripped(data)).decode())
        if not (name.startswith("jpeg") and "2000" not in name) and name not in (
            "explicit",
            "implicit",
            "dermoscopy",
            "planes",
            "frames",
        ):
            assert shown is None, name
            continue
        seen = np.frombuffer(b64decode(shown["data"]), np.uint8).reshape(shown["height"], shown["width"], 4)[..., :3]
        read = decode_image(data).pixels
        assert seen.shape == read.shape, name
        assert np.abs(seen.astype(int) - read).max() <= (6 if name.startswith("jpeg") else 0), name


def test_outline_and_heatmap_lie_on_the_photograph(page: Page, assess) -> None:
    kinds = files.kinds(PIXELS)
    assess(page, kinds["explicit"], "photograph.dcm", "")
    expect(page.locator(".photo")).to_be_visible()
    expect(page.locator(".no-preview")).to_be_hidden()
    expect(page.locator(".region")).to_be_visible()
    # a cropped picture would lose its scale
    expect(page.get_by_role("button", name="Crop or turn")).to_be_hidden()
    assert "Zwetschkenbaum" not in page.locator("body").inner_text()
    assess(page, kinds["ybr"], "other.dcm", "")
    expect(page.locator(".no-preview")).to_be_visible()
    expect(page.locator(".verdict")).to_be_visible()

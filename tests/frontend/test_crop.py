"""Cropping: an answer is only shown with the picture that it was computed from, and a crop can be undone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]

# Delays the encoding of a cropped picture until window.release() is called.
SLOW_ENCODER = """() => {
  const toBlob = HTMLCanvasElement.prototype.toBlob;
  const released = new Promise((resolve) => { window.release = resolve; });
  HTMLCanvasElement.prototype.toBlob = function (...values) { released.then(() => toBlob.apply(this, values)); };
}"""
# Records each file that is sent.
KEEP_SENT = """() => {
  window.sent = [];
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (body) { window.sent.push(body.get('file')); return send.call(this, body); };
}"""
AS_BASE64 = """(blob) => new Promise((resolve) => { const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(',')[1]); reader.readAsDataURL(blob); })"""


def shown(page: Page) -> bytes:
    """A screenshot of the picture in the frame."""
    return page.locator(".frame .photo").screenshot()


def halves() -> bytes:
    """A picture of 600 x 400: suspicious red on the left, unsuspicious green on the right."""
    picture = np.full((400, 600, 3), (10, 120, 40), np.uint8)
    picture[:, :370] = (10, 20, 240)
    return cv2.imencode(".png", picture)[1].tobytes()


def crop_to_the_right(page: Page) -> None:
    page.get_by_role("button", name="Crop or turn").click()
    page.get_by_role("slider", name="Size").fill("40")
    page.get_by_role("slider", name="From the left").fill("100")


def test_the_old_picture_cannot_be_sent_while_the_cut_one_is_made(page: Page, upload: Callable[..., dict]) -> None:
    page.set_input_files("#choose", upload(halves()))
    page.evaluate(KEEP_SENT)
    page.evaluate(SLOW_ENCODER)
    crop_to_the_right(page)
    page.get_by_role("button", name="Use this").click()
    # by script, faster than any finger; also for the whole queue
    page.evaluate("() => document.querySelector('#assess').click()")
    page.evaluate("() => document.querySelector('#assess-all').click()")
    expect(page.get_by_role("dialog")).to_contain_text("being cut")
    expect(page.locator("#assess")).to_be_hidden()
    page.evaluate("() => window.release()")
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "low_suspicion")
    assert page.evaluate("() => window.sent.length") == 1
    sent = base64.b64decode(page.evaluate(f"() => ({AS_BASE64})(window.sent[0])"))
    picture = cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[:2] == (220, 220)
    assert picture[110, 110].tolist() == [10, 120, 40]
    assert page.locator(".photo").evaluate("photo => [photo.naturalWidth, photo.naturalHeight]") == [220, 220]


def test_bytes_that_are_not_those_on_show_are_not_sent(page: Page, upload: Callable[..., dict]) -> None:
    page.set_input_files("#choose", upload(halves()))
    expect(page.get_by_role("button", name="Crop or turn")).to_be_visible()
    page.evaluate(KEEP_SENT)
    page.evaluate(  # as if the file had changed on the disk
        """() => { const read = Blob.prototype.arrayBuffer;
        Blob.prototype.arrayBuffer = async function () {
          const bytes = new Uint8Array(await read.call(this));
          bytes[bytes.length - 20] ^= 1;
          return bytes.buffer;
        }; }"""
    )
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.get_by_role("heading", name="The file cannot be read")).to_be_focused()
    assert page.evaluate("() => window.sent") == []


def test_an_answer_goes_when_its_picture_is_cut(page: Page, upload, assess) -> None:
    assess(page, halves())
    before = shown(page)
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")
    crop_to_the_right(page)
    page.get_by_role("button", name="Use this").click()
    expect(page.locator(".verdict")).to_have_count(0)
    expect(page.locator("derm-findings")).to_be_hidden()
    assert shown(page) != before


def test_an_answer_whose_bytes_are_not_those_on_show_is_not_shown(page: Page) -> None:
    """The digest decides, however the mismatch came about."""
    held = page.evaluate(
        """async () => {
          const { assessmentOf } = await import(new URL('js/check/state.js', location.href));
          const answer = { assessment: { decision: 'low_suspicion' }, digest: 'a', at: new Date() };
          return [assessmentOf({ answer, digest: 'a' }) !== null, assessmentOf({ answer, digest: 'b' }) !== null];
        }"""
    )
    assert held == [True, False]


@pytest.mark.parametrize("size", [0, 3, 55, 56, 63, 64, 65, 1000])
def test_digest_without_a_secure_connection(page: Page, size: int) -> None:
    data = bytes(range(256)) * 4
    found = page.evaluate(
        """async (encoded) => { const { slowDigest } = await import(new URL('js/intake/digest.js', location.href));
        return slowDigest(Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))); }""",
        base64.b64encode(data[:size]).decode(),
    )
    assert found == hashlib.sha256(data[:size]).hexdigest()


def test_the_crop_is_kept_and_can_be_undone(page: Page, upload, sent_file) -> None:
    data = halves()
    page.set_input_files("#choose", upload(data))
    crop_to_the_right(page)
    page.get_by_role("button", name="Use this").click()
    expect(page.get_by_role("button", name="Assess this picture")).to_be_focused()
    # when reopened, it shows the cropped square, and confirming that changes nothing
    page.get_by_role("button", name="Crop or turn").click()
    expect(page.get_by_role("slider", name="From the left")).to_have_attribute("aria-valuetext", "380 pixels from the left")
    page.get_by_role("button", name="Use this").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.locator(".photo").evaluate("photo => photo.decode().then(() => photo.naturalWidth)") == 220
    page.get_by_role("button", name="Crop or turn").click()
    page.get_by_role("button", name="Undo crop and turning").click()
    page.get_by_role("button", name="Use this").click()
    assert sent_file(page, page.get_by_role("button", name="Assess this picture").click) == data

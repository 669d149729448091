"""How a picture is chosen and sent, and the use of the page with a keyboard."""

from __future__ import annotations

import base64
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from playwright.sync_api import CDPSession, Page, expect

pytestmark = pytest.mark.browser

# Makes a File in the page, as dropping and pasting do.
FILE = "(encoded, name, type) => new File([Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))], name, { type })"
DROP = f"""([files, kind]) => {{
  const make = {FILE};
  const dataTransfer = new DataTransfer();
  for (const file of files) dataTransfer.items.add(make(...file));
  return document.querySelector('main').dispatchEvent(new DragEvent(kind, {{ dataTransfer, bubbles: true, cancelable: true }}));
}}"""


def as_file(data: bytes, name: str = "lesion.png", mime: str = "image/png") -> list[str]:
    return [base64.b64encode(data).decode("ascii"), name, mime]


def expect_ready(page: Page) -> None:
    expect(page.locator("main")).to_have_attribute("data-state", "ready")
    expect(page.locator(".photo")).to_be_visible()
    expect(page.get_by_role("button", name="Assess this picture")).to_be_focused()


def slow_uplink(page: Page, bytes_per_second: int) -> CDPSession:
    """Throttles uploads until the session is detached."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second},
    )
    return session


@pytest.fixture(scope="module")
def noise() -> bytes:
    """A picture of about one megabyte; noise does not compress."""
    done, data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8))
    assert done
    return data.tobytes()


def tab_through_buttons(page: Page, *names: str) -> None:
    """Asserts that the focus is on the first of these buttons and that Tab moves it from one to the next."""
    for name in names:
        expect(page.get_by_role("button", name=name)).to_be_focused()
        page.keyboard.press("Tab")


def test_choosing_shows_the_picture_upright(page: Page, plain: Callable[..., bytes], choose: Callable[..., None]) -> None:
    choose(page, plain(width=300, height=500))
    expect_ready(page)
    box = page.locator(".photo").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(300 / 500, rel=0.02)
    expect(page.locator(".photo")).to_have_attribute("alt", "The picture you chose: lesion.png")
    expect(page.locator(".region")).to_be_hidden()
    expect(page.locator("derm-picker")).to_be_hidden()
    expect(page.locator("#status")).to_contain_text("lesion.png")


def test_dropping_anywhere(page: Page, plain) -> None:
    drag = [[as_file(plain())], "dragenter"]
    assert page.evaluate(DROP, drag) is False  # the event is handled, so the browser does not open the file
    assert page.evaluate("() => document.body.hasAttribute('data-dragging')")
    assert page.evaluate(DROP, [[as_file(plain())], "drop"]) is False
    assert not page.evaluate("() => document.body.hasAttribute('data-dragging')")
    expect_ready(page)


def test_pasting_with_the_keyboard(page: Page, plain) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    kinds = page.evaluate(
        f"""async (file) => {{
          await navigator.clipboard.write([new ClipboardItem({{ 'image/png': ({FILE})(...file) }})]);
          return (await navigator.clipboard.read()).flatMap((item) => item.types);
        }}""",
        as_file(plain()),
    )
    assert "image/png" in kinds
    page.bring_to_front()
    page.keyboard.press("Control+V")
    expect_ready(page)


def test_pasting_text_says_so_and_takes_no_picture_away(page: Page, plain, choose) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("() => navigator.clipboard.writeText('mole')")
    page.keyboard.press("Control+V")
    expect(page.get_by_role("heading", name="There was no picture in that")).to_be_focused()
    choose(page, plain())
    expect_ready(page)
    page.keyboard.press("Control+V")
    expect_ready(page)


def test_another_picture_replaces_an_answer(page: Page, plain, upload, assess) -> None:
    assess(page, plain(red=230))
    with page.expect_file_chooser() as opened:
        page.get_by_role("button", name="Check another picture").click()
    opened.value.set_files(upload(plain(red=40), "second.png"))
    expect_ready(page)
    expect(page.locator(".verdict")).to_have_count(0)
    expect(page.locator("derm-findings")).to_be_hidden()
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "low_suspicion")


def test_sending_shows_its_progress(page: Page, noise: bytes, choose) -> None:
    slow_uplink(page, 1_000_000)
    choose(page, noise)
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.get_by_role("progressbar", name="Sending the picture")).to_be_visible()
    page.wait_for_function(
        "() => { const bar = document.querySelector('#progress-bar'); return bar.value > 0 && bar.value < 100; }"
    )
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.locator("#progress")).to_be_hidden()


def test_cancelling_goes_back_to_the_picture(page: Page, noise: bytes, choose) -> None:
    slow = slow_uplink(page, 100_000)
    choose(page, noise)
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    with page.expect_event("requestfailed") as failed:
        page.keyboard.press("Enter")
    assert failed.value.url.endswith("/api/predict?explain=true")
    expect_ready(page)
    expect(page.locator("#status")).to_contain_text("Cancelled")
    # it can be sent again
    slow.detach()
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_be_visible()


def test_keyboard_alone_is_enough(page: Page, plain, upload) -> None:
    # listens before the first key, because Chromium intercepts its dialog reliably only some round trips later
    with page.expect_file_chooser() as opened:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator("#choose")).to_be_focused()
        assert page.locator("label:has(#choose)").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
        page.keyboard.press("Enter")
    opened.value.set_files(upload(plain(red=230)))
    expect_ready(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Suspicious")).to_be_focused()

    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="More about this answer")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Where is the spot examined?")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("group", name="Plus and minus enlarge")).to_be_focused()
    page.keyboard.press("Tab")
    tab_through_buttons(page, "Zoom out", "Zoom in", "Whole picture")
    heatmap = page.get_by_role("checkbox", name="Show heatmap")
    expect(heatmap).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="Lines")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider", name="Covered by the heatmap")).to_be_focused()
    page.keyboard.press("Tab")
    slider = page.get_by_role("slider", name="Opacity")
    expect(slider).to_be_focused()
    before = float(page.locator(".heat").evaluate("heat => getComputedStyle(heat).opacity"))
    page.keyboard.press("ArrowLeft")
    after = float(page.locator(".heat").evaluate("heat => getComputedStyle(heat).opacity"))
    assert after == pytest.approx(before - 0.05)
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(heatmap).not_to_be_checked()
    expect(page.locator(".heat")).to_have_css("opacity", "0")
    expect(slider).to_be_disabled()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Crop or turn")).to_be_focused()
    page.keyboard.press("Tab")
    tab_through_buttons(page, "Check another picture", "Take another photograph", "Start over")
    page.keyboard.press("Enter")
    expect(page.locator("derm-findings details")).to_have_attribute("open", "")

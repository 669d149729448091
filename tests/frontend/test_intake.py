"""Several pictures, cropping and turning, the camera, and warnings before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, Response, expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]


def decoded(data: bytes) -> np.ndarray:
    """Decodes a picture to BGR."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def quarters() -> bytes:
    """A picture of 600 x 400: grey at the top, red at the bottom left and green at the bottom right."""
    picture = np.full((400, 600, 3), 90, np.uint8)
    picture[200:, :300] = (0, 0, 255)
    picture[200:, 300:] = (0, 255, 0)
    return cv2.imencode(".png", picture)[1].tobytes()


def test_several_pictures_one_after_another(page: Page, plain: Callable[..., bytes], upload: Callable[..., dict]) -> None:
    sent: list[Response] = []
    page.on("response", lambda response: sent.append(response) if "/predict" in response.url else None)
    note = upload(b"%PDF", "note.pdf", "application/pdf")
    files = [upload(plain(red=230), "first.png"), note, upload(plain(red=40), "last.png")]
    page.set_input_files("#choose", files)
    rows = page.locator(".queue li")
    expect(rows).to_have_count(3)
    expect(page.get_by_role("heading", name="3 pictures")).to_be_visible()
    expect(rows.nth(1)).to_contain_text("Cannot be sent")
    page.get_by_role("button", name="Assess all 2 pictures").click()
    first, refused, last = (rows.filter(has_text=name) for name in ("first.png", "note.pdf", "last.png"))
    expect(first).to_contain_text("Suspicious")
    expect(last).to_contain_text("Low suspicion")
    assert len(sent) == 2
    # each answer belongs to its picture
    first.locator(".queue-choose").click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")
    expect(page.locator(".photo")).to_have_attribute("alt", re.compile("first.png"))
    refused.locator(".queue-choose").click()
    expect(page.get_by_role("heading", name="This kind of file cannot be assessed")).to_be_visible()
    expect(page.locator(".verdict")).to_have_count(0)
    page.get_by_role("button", name="Remove note.pdf").click()
    expect(rows).to_have_count(2)


def test_cropping_with_the_keyboard_sends_that_square(page: Page, upload, sent_file) -> None:
    page.set_input_files("#choose", upload(quarters()))
    page.get_by_role("button", name="Crop or turn").click()
    frame = page.get_by_role("group", name="Square to be assessed")
    expect(frame).to_be_focused()
    page.get_by_role("slider", name="Size").fill("33")  # 100 + 33% of 300 = 199 pixels
    page.get_by_role("slider", name="From the left").fill("100")
    page.get_by_role("slider", name="From the top").fill("100")
    frame.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("slider", name="From the left")).to_have_attribute("aria-valuetext", re.compile(r"^39\d pixels"))
    page.get_by_role("button", name="Use this").click()
    expect(page.get_by_role("button", name="Assess this picture")).to_be_focused()
    picture = decoded(sent_file(page, lambda: page.keyboard.press("Enter")))
    assert picture.shape == (199, 199, 3)
    assert picture.reshape(-1, 3).mean(axis=0) == pytest.approx([0, 255, 0], abs=1)


def test_turning_keeps_the_whole_picture(page: Page, upload, sent_file) -> None:
    page.set_input_files("#choose", upload(quarters()))
    page.get_by_role("button", name="Crop or turn").click()
    page.get_by_role("button", name="Turn right").click()
    page.get_by_role("button", name="Use this").click()
    picture = decoded(sent_file(page, page.get_by_role("button", name="Assess this picture").click))
    assert picture.shape == (600, 400, 3)
    assert picture[10, 10].tolist() == [0, 0, 255]  # the bottom left is now the top left
    assert picture[590, 10].tolist() == [0, 255, 0]


def test_leaving_the_editor_changes_nothing(page: Page, upload, sent_file) -> None:
    data = quarters()
    page.set_input_files("#choose", upload(data))
    page.get_by_role("button", name="Crop or turn").click()
    page.get_by_role("button", name="Turn right").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Crop or turn")).to_be_focused()
    assert sent_file(page, page.get_by_role("button", name="Assess this picture").click) == data


def test_dark_and_blurred_are_said_before_anything_is_sent(page: Page, plain, choose) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    choose(page, plain(red=20, green=10, blue=10))
    expect(page.locator("#concerns")).to_contain_text("looks very dark")
    expect(page.locator("#concerns")).to_contain_text("looks blurred")
    expect(page.locator("#status")).to_contain_text("looks very dark")
    assert "POST" not in sent
    button, said = (page.locator(name).bounding_box() for name in ("#assess", "#concerns"))
    assert button["y"] + button["height"] <= said["y"], "a notice that appears later must not move the button"
    noise = np.random.default_rng(0).integers(120, 250, (300, 300, 3), np.uint8)
    choose(page, cv2.imencode(".png", noise)[1].tobytes())
    expect(page.get_by_role("button", name="Crop or turn")).to_be_visible()
    expect(page.locator("#concerns")).to_be_hidden()


def test_camera_without_the_lens_leads_to_advice(page: Page) -> None:
    page.get_by_role("button", name="Take a photograph").click()
    expect(page.get_by_role("heading", name="Is a dermatoscope lens on the camera?")).to_be_focused()
    page.get_by_role("button", name="No", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("its answer would mean nothing")
    expect(page.get_by_role("dialog")).to_contain_text("see a doctor whatever this says")
    assert page.locator("dialog input[type=file], dialog video").count() == 0
    page.get_by_role("button", name="Close").click()
    expect(page.locator("main")).to_have_attribute("data-state", "empty")


# Records every stream that the page gets, so that its state can be read later.
KEEP_STREAMS = """() => {
  window.streams = [];
  const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    window.streams.push(await get(wanted));
    return window.streams.at(-1);
  };
}"""
STATES = "() => window.streams.map((stream) => stream.getTracks().map(({ readyState }) => readyState).join())"


def test_live_camera_takes_the_centred_square_and_takes_it_again(page: Page) -> None:
    page.evaluate(KEEP_STREAMS)
    page.get_by_role("button", name="Take a photograph").click()
    page.get_by_role("button", name="Yes, the lens is on").click()
    expect(page.locator("dialog video")).to_be_visible()
    expect(page.locator(".ring")).to_be_visible()
    expect(page.locator(".gauge").first).not_to_be_empty()
    expect(page.locator("dialog [role=status]")).not_to_be_empty()
    assert page.evaluate(STATES) == ["live"]
    page.get_by_role("button", name="Take the picture").click()
    expect(page.get_by_role("heading", name="Is this picture good?")).to_be_focused()
    assert page.evaluate(STATES) == ["ended"]  # the camera is off during the review
    shown = page.locator("dialog canvas").evaluate("canvas => [canvas.width, canvas.height]")
    page.get_by_role("button", name="Take it again").click()
    expect(page.locator("dialog video")).to_be_visible()
    assert page.evaluate(STATES) == ["ended", "live"]
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_role("button", name="Use this picture").click()
    expect(page.locator("main")).to_have_attribute("data-state", "ready")
    size = page.locator(".photo").evaluate("p => p.decode().then(() => [p.naturalWidth, p.naturalHeight])")
    assert size == shown
    assert size[0] == size[1] > 100
    assert page.locator("video").count() == 0
    assert page.evaluate(STATES) == ["ended", "ended"]
    # after the answer, one click starts the next photograph
    page.get_by_role("button", name="Assess this picture").click()
    page.get_by_role("button", name="Take another photograph").click()
    expect(page.get_by_role("heading", name="Is a dermatoscope lens on the camera?")).to_be_focused()


@pytest.mark.parametrize("leave", ["Escape", "history", "unplugged"])
def test_no_camera_stays_on_when_the_dialog_is_left(page: Page, leave: str) -> None:
    page.evaluate(KEEP_STREAMS)
    page.get_by_role("button", name="Take a photograph").click()
    page.get_by_role("button", name="Yes, the lens is on").click()
    expect(page.locator("dialog video")).to_be_visible()
    if leave == "Escape":
        page.keyboard.press("Escape")
    elif leave == "history":
        page.evaluate("() => { location.hash = 'history'; }")
    else:  # the browser signals it with this event
        page.evaluate("() => window.streams[0].getTracks()[0].dispatchEvent(new Event('ended'))")
        expect(page.get_by_role("dialog")).to_contain_text("The camera could not be started, or it stopped.")
    expect(page.locator("video")).to_have_count(0)
    assert page.evaluate(STATES) == ["ended"]


def test_refused_camera_is_told_in_words(page: Page) -> None:
    refuse = "() => Promise.reject(new DOMException('', 'NotAllowedError'))"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refuse}; }}")
    page.get_by_role("button", name="Take a photograph").click()
    page.get_by_role("button", name="Yes, the lens is on").click()
    expect(page.get_by_role("dialog")).to_contain_text("does not let this page use the camera")


def test_without_a_secure_connection_the_device_camera_remains(new_page, service, plain, upload) -> None:
    page = new_page(service.url, load=False, width=360, height=800, has_touch=True, is_mobile=True)
    page.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false });")
    page.goto(service.url)
    page.get_by_role("button", name="Take a photograph").click()
    page.get_by_role("button", name="Yes, the lens is on").click()
    expect(page.get_by_role("dialog")).to_contain_text("needs a secure connection (HTTPS)")
    assert page.locator("#photograph").get_attribute("capture") == "environment"
    page.set_input_files("#photograph", upload(plain(), "image.png"))
    expect(page.locator("main")).to_have_attribute("data-state", "ready")
    page.get_by_role("link", name="Privacy").click()
    expect(page.get_by_text("opened without a secure connection")).to_be_visible()

"""The server's comparison of two kept pictures of a spot: what is sent, said and drawn."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from tests.frontend.comparing import COMPARE, EARLIER, LATER, answering, comparison, lesion, open_comparison

pytestmark = [pytest.mark.browser, pytest.mark.ci]


@pytest.fixture
def dialog(page: Page) -> Locator:
    """The dialog with two pictures side by side, before anything is sent."""
    return open_comparison(page)


def ask(page: Page, dialog: Locator, reply: Callable[[Route], None]) -> Locator:
    """Has the two pictures compared, with the keyboard."""
    page.route(COMPARE, reply)
    dialog.get_by_role("button", name="Compare these two pictures").press("Enter")
    return dialog.locator(".findings-of-change")


def pixel(page: Page, frame: Locator, x: float, y: float) -> list[int]:
    """The colour (BGR) at a point of the frame; ``x`` and ``y`` are 0..1."""
    shot = cv2.imdecode(np.frombuffer(frame.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    height, width = shot.shape[:2]
    return shot[min(height - 1, round(y * height)), min(width - 1, round(x * width))].tolist()


def test_a_change_is_shown_with_its_range_and_leads_to_a_doctor(page: Page, dialog: Locator) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    expect(dialog.locator(".measure")).to_contain_text("both pictures are sent to the server. It forgets them")
    page.evaluate(
        """() => { const send = XMLHttpRequest.prototype.send;
        XMLHttpRequest.prototype.send = function (body) {
          window.sent = body.getAll('files').map(({ size, name }) => [size, name]);
          return send.call(this, body); }; }"""
    )
    assert sent == []
    found = ask(page, dialog, answering(comparison("changed", "growth", "colour")))
    heading = found.get_by_role("heading", name="The spot has changed")
    expect(heading).to_be_focused()
    assert page.evaluate("() => window.sent") == [[len(lesion(*each)), "picture"] for each in (EARLIER, LATER)]
    assert len(sent) == 1
    assert "explain=true" in sent[0]
    expect(found.locator(".advice")).to_have_text("Show this spot to a doctor, with both pictures.")
    expect(found).to_contain_text("about 12% larger, between 6% and 18%")
    expect(found).to_contain_text("The colour has changed. New colours: black · blue-grey. Colours no longer found: red.")
    expect(found).to_contain_text("The skin around the spot served to fit the two pictures together.")
    expect(found).not_to_contain_text("CIELAB")  # this detail is for clinicians
    expect(found).not_to_contain_text("server's")  # the page does not need the server's English text

    # the later picture fitted onto the earlier one, blended or divided by a line that the keyboard moves
    frame = dialog.locator(".overlay")
    lines = dialog.locator(".overlay .outline .line")
    expect(lines).to_have_count(2)
    inner, outer = (line.bounding_box() for line in lines.all())
    assert outer["width"] == pytest.approx(inner["width"] * LATER[2] / EARLIER[2], rel=0.02)
    assert outer["x"] + outer["width"] / 2 == pytest.approx(inner["x"] + inner["width"] / 2, abs=0.5)
    expect(frame).to_have_attribute("aria-label", "The later picture, fitted onto the earlier one, with both outlines")
    dialog.get_by_label("Show both outlines").uncheck()
    expect(dialog.locator(".overlay .outline").first).to_be_hidden()
    slider = dialog.get_by_role("slider", name="Later picture on top")
    edge = 0.5 + 95 / 450  # between the two lesions' edges, at half the height
    slider.fill("0")
    assert pixel(page, frame, edge, 0.5)[2] > 190  # skin
    slider.fill("100")
    assert pixel(page, frame, edge, 0.5)[2] < 120  # lesion
    dialog.get_by_label("Dividing line").check()
    slider.fill("50")
    slider.press("ArrowRight")
    assert slider.input_value() == "51"
    assert pixel(page, frame, edge, 0.5)[2] > 190
    assert pixel(page, frame, 1 - edge, 0.5)[2] < 120
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert slider.input_value() == "90"

    # choosing other dates clears the result
    dialog.locator("select").last.select_option("picture0")
    expect(found).to_have_count(0)
    expect(dialog.locator(".measure")).to_contain_text("Choose two different pictures.")
    expect(dialog.locator(".overlay .outline").first).to_be_hidden()


DOCTOR = "doctor"
TABLE = [
    # the range includes no change, and nothing reassures
    (
        comparison("no_change_found", "no_change", growth={"value": 1.8, "low": -5.9, "high": 10.1}, colours=None),
        "No change was found",
        ["anything from 6% smaller to 10% larger", "No change of colour was found.", "does not mean that all is well", DOCTOR],
    ),
    (
        comparison("changed", "growth", growth={"value": -20.4, "low": -31.0, "high": -8.6}, colours=None),
        "The spot has changed",
        ["about 20% smaller, between 9% and 31%", "Show this spot to a doctor"],
    ),
    # a comparison does not override the answer for one picture
    (
        comparison("no_change_found", "no_change", decisions=("low_suspicion", "suspicious")),
        "No change was found",
        [
            "Show this spot to a doctor, whatever the comparison says.",
            "On its own, the picture of April 2, 2026 looks suspicious.",
        ],
    ),
    (
        comparison("not_comparable", "lighting", "framing"),
        "These pictures cannot be compared",
        ["The light differs too much.", "with skin to be seen all around the spot", "Take the picture again", DOCTOR],
    ),
    # a reason that this page does not know yet
    (comparison("not_comparable", "moon"), "These pictures cannot be compared", ["The server's words on moon."]),
]


def test_each_result_has_its_words_and_its_advice(page: Page, dialog: Locator) -> None:
    for body, title, words in TABLE:
        found = ask(page, dialog, answering(body))
        expect(found.get_by_role("heading", name=title)).to_be_focused()
        for each in words:
            expect(found).to_contain_text(each)
        # starts over, by choosing other dates
        page.unroute(COMPARE)
        dialog.locator("select").last.select_option("picture0")
        dialog.locator("select").last.select_option("picture1")


def test_what_goes_wrong_is_said_and_can_be_tried_again(page: Page, dialog: Locator) -> None:
    limited = {"code": "rate_limited", "status": 429, "detail": "", "retry_after": 1}
    found = ask(page, dialog, lambda route: route.fulfill(status=429, json=limited))
    measure = dialog.locator(".measure")
    expect(measure.locator("derm-problem h2")).to_be_focused()
    expect(measure).to_contain_text("You can still compare the pictures by eye.")
    page.unroute(COMPARE)
    page.route(COMPARE, lambda route: route.abort("internetdisconnected"))
    measure.get_by_role("button", name="Try again", exact=True).click()
    expect(measure.get_by_role("heading", name="The service cannot be reached")).to_be_focused()
    # an older server that cannot compare
    page.unroute(COMPARE)
    page.route(COMPARE, lambda route: route.fulfill(status=404, json={"code": "not_found", "status": 404}))
    measure.get_by_role("button", name="Try again").click()
    expect(measure.get_by_role("heading", name="This server cannot compare pictures")).to_be_focused()
    expect(measure.get_by_role("button")).to_have_count(0)
    # an invalid response is not shown as a result
    dialog.locator("select").first.select_option("picture1")
    dialog.locator("select").first.select_option("picture0")
    page.unroute(COMPARE)
    ask(page, dialog, answering(comparison("changed", "growth", growth={"value": None, "low": 0, "high": 1})))
    expect(measure.locator("derm-problem h2")).to_be_focused()
    # it can be cancelled while it waits
    page.unroute(COMPARE)
    page.route(COMPARE, lambda route: None)
    measure.get_by_role("button", name="Try again").click()
    expect(measure).to_contain_text("The pictures are being compared…")
    expect(measure.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(measure.get_by_role("button", name="Compare these two pictures")).to_be_focused()
    # a picture that this device has lost is not sent
    dialog.get_by_role("button", name="Close").click()
    page.evaluate("() => { location.hash = 'check'; }")
    page.unroute(COMPARE)
    dialog = open_comparison(page, lesion(*EARLIER), b"lost")
    found = ask(page, dialog, answering(comparison()))
    expect(dialog.locator("derm-problem h2")).to_be_focused()
    expect(found).to_have_count(0)


def test_after_keeping_a_second_picture_it_is_offered(page: Page, plain, assess) -> None:
    for at, red in enumerate((60, 230)):
        assess(page, plain(red=red))
        expect(page.locator(".keep h2")).to_be_visible()
        if page.get_by_role("button", name="Turn on the history").is_visible():
            page.get_by_role("button", name="Turn on the history").click()
        if at > 0:
            page.get_by_label("Which spot?").select_option(index=1)
        page.get_by_role("button", name="Keep this picture").click()
        expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()
        expect(page.get_by_role("button", name="Compare with an earlier picture")).to_have_count(at)
    page.get_by_role("button", name="Compare with an earlier picture").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".pair img")).to_have_count(2)
    assert dialog.locator(".pair img").last.evaluate("image => image.decode().then(() => image.naturalWidth)") == 600
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Compare with an earlier picture")).to_be_focused()

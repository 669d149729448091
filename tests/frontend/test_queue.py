"""Several pictures: the summary of a finished run, the effect of one failure on the others, and the focus meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import FilePayload, Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]
PREDICT = "**/api/predict**"

Plain = Callable[..., bytes]
Upload = Callable[..., FilePayload]


def busy(seconds: int) -> Callable[[Route], None]:
    """Refuses requests as nginx does above its rate limit."""
    body = f'{{"status": 429, "code": "rate_limited", "detail": "Slow down.", "request_id": "r", "retry_after": {seconds}}}'
    return lambda route: route.fulfill(status=429, body=body, headers={"Retry-After": str(seconds)})


def row(page: Page, name: str):
    return page.locator(".queue li").filter(has_text=name)


def test_a_finished_queue_says_how_many_are_suspicious(new_page, service, plain: Plain, upload: Upload) -> None:
    page = new_page(service.url, width=360, height=740)
    files = [
        upload(plain(red=30), "last.png"),  # the picture on show while the others are assessed
        upload(plain(red=230), "second.png"),
        upload(plain(red=230, blue=220), "photograph.png"),
        upload(b"%PDF", "note.pdf", "application/pdf"),
        upload(plain(red=250), "first.png"),
    ]
    page.set_input_files("#choose", files)
    page.get_by_role("button", name="Assess all 4 pictures").click()
    heading = page.get_by_role("heading", name="2 of 5 pictures are suspicious")
    expect(heading).to_be_focused()
    expect(heading).to_be_in_viewport()
    counts = page.locator(".queue-counts")
    for part in ("Low suspicion: 1", "Not assessed: 1", "Failed: 1"):
        expect(counts).to_contain_text(part)
    expect(counts).to_be_in_viewport()
    names = page.locator(".queue-name").all_inner_texts()
    assert names[:2] == ["first.png", "second.png"]
    assert names[-1] == "last.png"
    # the answer of the most suspicious picture is shown, with its name and thumbnail
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")
    expect(page.locator("#answer-of")).to_have_text("first.png")
    for name in ("first.png", "last.png"):
        row(page, name).locator(".queue-choose").click()
        expect(page.locator("#answer-of")).to_have_text(name)
        assert page.locator("#answer-of img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 50
        expect(page.locator("#answer-of")).to_be_in_viewport()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (320, 480)])
def test_a_single_answer_carries_its_name(new_page, service, plain: Plain, assess, width: int, height: int) -> None:
    page = new_page(service.url, width=width, height=height)
    assess(page, plain(red=230), "mole on the back.png")
    expect(page.locator("#answer-of")).to_have_text("mole on the back.png")
    heading = page.get_by_role("heading", name="Suspicious")
    expect(heading).to_be_focused()
    for shown in (page.locator("#answer-of"), heading):
        expect(shown).to_be_in_viewport(ratio=1)
        covered = page.locator(".disclaimer").bounding_box()  # the disclaimer stays visible above
        assert shown.bounding_box()["y"] >= covered["y"] + covered["height"]
    assert heading.get_attribute("aria-describedby") == "answer-name"


def test_what_is_broken_is_passed_over_and_what_must_wait_is_sent_again(page: Page, plain: Plain, upload: Upload) -> None:
    sent: list[int] = []
    page.on("response", lambda response: sent.append(response.status) if "/predict" in response.url else None)
    page.route(PREDICT, busy(2), times=1)
    truncated = plain(suffix=".jpg")[:-400]
    files = [upload(truncated, "cut.jpg", "image/jpeg"), *(upload(plain(red=230), f"{at}.png") for at in range(3))]
    page.set_input_files("#choose", files)
    page.get_by_role("button", name="Assess all 4 pictures").click()
    expect(page.locator(".run")).to_contain_text(["The server asked for a pause.", ""])
    expect(page.get_by_role("heading", name="3 of 4 pictures are suspicious")).to_be_focused()
    expect(page.locator(".queue-counts")).to_have_text("Failed: 1")
    expect(row(page, "cut.jpg")).to_contain_text("Failed")
    assert sorted(sent) == [200, 200, 200, 422, 429]
    # a picture that can only fail again is not offered again
    expect(page.locator("#assess-all")).to_be_hidden()


def test_what_failed_on_the_way_is_sent_again_by_assess_all(page: Page, plain: Plain, upload: Upload) -> None:
    down = {"on": True}
    page.route(PREDICT, lambda route: route.abort("connectionrefused") if down["on"] else route.fallback())
    page.set_input_files("#choose", [upload(plain(red=230), "a.png"), upload(plain(red=40), "b.png")])
    page.get_by_role("button", name="Assess all 2 pictures").click()
    expect(page.locator("#run-bar")).to_be_hidden(timeout=60_000)
    expect(row(page, "a.png")).to_contain_text("Failed")
    down["on"] = False
    page.get_by_role("button", name="Assess all 2 pictures").click()
    expect(page.get_by_role("heading", name="1 of 2 pictures is suspicious")).to_be_focused()


def test_fifty_pictures_take_one_click_behind_the_shipped_limits(
    new_page, start_service, start_nginx, make_bundle, tmp_path, plain: Plain, upload: Upload
) -> None:
    make_bundle(tmp_path / "models")
    with (
        start_service(tmp_path / "models", tmp_path / "log", AIDERM_FRONTEND_DIR="") as api,
        start_nginx(tmp_path / "nginx", api.port, rate="5r/s", burst=20) as front,
    ):
        page = new_page(front.url, width=360, height=740)
        refused: list[int] = []
        page.on("response", lambda response: refused.append(1) if response.status == 429 else None)
        page.set_input_files("#choose", [upload(plain(red=40 + at, width=120, height=120), f"{at}.png") for at in range(50)])
        page.get_by_role("button", name="Assess all 50 pictures").click()
        expect(page.locator(".queue li[data-state=result]")).to_have_count(50, timeout=120_000)
        expect(page.locator("#queue-title")).to_be_focused()
        # the answer of number 45 in the list is visible at once
        page.locator(".queue-choose").nth(44).click()
        expect(page.locator("#answer-of")).to_be_in_viewport()
        name = page.locator(".queue-name").nth(44).inner_text()
        expect(page.locator("#answer-of")).to_have_text(name)


def test_a_picture_that_comes_during_a_run_joins_it(page: Page, plain: Plain, upload: Upload) -> None:
    held: list[Route] = []
    page.route(PREDICT, lambda route: held.append(route), times=1)
    page.set_input_files("#choose", [upload(plain(red=230), "a.png"), upload(plain(red=230), "b.png")])
    page.get_by_role("button", name="Assess all 2 pictures").click()
    expect(row(page, "a.png")).to_have_attribute("data-state", "sending")
    page.set_input_files("#choose", upload(plain(red=230), "late.png"))
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_role("button", name="Assess this picture").click()
    expect(row(page, "late.png")).to_contain_text("Waiting")
    held[0].fallback()
    expect(page.get_by_role("heading", name="3 of 3 pictures are suspicious")).to_be_visible()


def test_removing_the_picture_that_is_sent_leaves_the_run_alone(page: Page, plain: Plain, upload: Upload) -> None:
    page.route(PREDICT, lambda route: None, times=1)
    page.set_input_files("#choose", [upload(plain(red=230), f"{name}.png") for name in "abc"])
    page.get_by_role("button", name="Assess all 3 pictures").click()
    expect(row(page, "a.png")).to_have_attribute("data-state", "sending")
    page.get_by_role("button", name="Remove a.png").click()
    expect(page.get_by_role("heading", name="2 of 2 pictures are suspicious")).to_be_visible()


def test_cancelling_leaves_the_rest_to_be_sent(page: Page, plain: Plain, upload: Upload) -> None:
    page.route(PREDICT, lambda route: None, times=1)
    page.set_input_files("#choose", [upload(plain(red=230), f"{name}.png") for name in "abc"])
    page.get_by_role("button", name="Assess all 3 pictures").click()
    row(page, "c.png").locator(".queue-choose").click()  # Cancel is available whichever picture is shown
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".queue li[data-state=ready]")).to_have_count(3)
    page.get_by_role("button", name="Assess all 3 pictures").click()
    expect(page.get_by_role("heading", name="3 of 3 pictures are suspicious")).to_be_focused()


FOCUS_LOG = """() => {
  window.moves = [];
  document.addEventListener('focusin', (event) => window.moves.push(event.target.id || event.target.tagName));
  window.said = [];
  new MutationObserver(() => window.said.push(document.querySelector('#status').textContent))
    .observe(document.querySelector('#status'), { childList: true, characterData: true, subtree: true });
}"""


def test_a_run_moves_the_focus_once_and_says_little(page: Page, plain: Plain, upload: Upload) -> None:
    page.set_input_files("#choose", [upload(plain(red=230), f"{at}.png") for at in range(6)])
    expect(page.get_by_role("button", name="Assess all 6 pictures")).to_be_focused()
    expect(page.locator(".queue-thumb img:visible")).to_have_count(6)
    page.evaluate(FOCUS_LOG)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="6 of 6 pictures are suspicious")).to_be_focused()
    assert page.evaluate("() => window.moves") == ["cancel-run", "queue-title"]
    assert len(page.evaluate("() => window.said")) <= 2


def test_the_focus_stays_on_the_page_when_pictures_are_removed(page: Page, plain: Plain, upload: Upload) -> None:
    page.set_input_files("#choose", [upload(plain(red=230), f"{name}.png") for name in "abc"])
    for name in "abc":
        button = page.get_by_role("button", name=f"Remove {name}.png")
        if name == "c":  # a single picture is not shown as a list
            page.get_by_role("button", name="Start over").click()
        else:
            button.focus()
            page.keyboard.press("Enter")
        page.wait_for_function("() => document.activeElement !== document.body && document.activeElement.checkVisibility()")
    expect(page.locator("#choose")).to_be_focused()
    expect(page.locator("main")).to_have_attribute("data-state", "empty")


def test_there_is_a_way_back_to_the_start(page: Page, plain: Plain, upload: Upload, assess) -> None:
    assess(page, plain(red=128))
    expect(page.locator(".next")).to_contain_text("Take another picture")
    page.get_by_role("button", name="Take another photograph").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("main")).to_have_attribute("data-state", "empty")
    expect(page.locator(".verdict")).to_have_count(0)
    page.set_input_files("#choose", [upload(plain(red=230), f"{name}.png") for name in "ab"])
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator("main")).to_have_attribute("data-state", "empty")
    page.get_by_role("link", name="Privacy").click()
    page.get_by_role("link", name="AI Dermatologist", exact=True).click()
    expect(page.get_by_role("heading", level=1, name=re.compile("second look"))).to_be_visible()

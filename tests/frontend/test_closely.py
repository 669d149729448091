"""Zooming: picture and heatmap are enlarged together; the heatmap's contour lines; which gestures stay with the page."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from aiderm_api.serving.answers import PEAK_ALPHA

pytestmark = [pytest.mark.browser, pytest.mark.ci]
LINES = """async ([values, width, level]) => {
  const { isoLines } = await import(new URL('js/answer/contours.js', location.href));
  return isoLines(values, width, level);
}"""


def spot() -> bytes:
    """A red picture with a soft green spot in the upper left of the assessed square: the steerable model's heatmap."""
    picture = np.full((450, 600, 3), (10, 0, 220), np.uint8)
    rows, columns = np.mgrid[:450, :600]
    picture[..., 1] = 255 * np.exp(-((columns - 215) ** 2 + (rows - 150) ** 2) / (2 * 60**2))
    done, data = cv2.imencode(".png", picture)
    assert done
    return data.tobytes()


def box(locator: Locator) -> dict[str, float]:
    found = locator.bounding_box()
    assert found is not None
    return found


def shot(locator: Locator) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(locator.screenshot(animations="disabled"), np.uint8), cv2.IMREAD_COLOR).astype(int)


def test_lines_lie_where_the_level_is_met(page: Page) -> None:
    rows, columns = np.mgrid[:40, :40]
    cone = 1 - np.hypot(columns - 20.3, rows - 18.6) / 15
    (ring,) = page.evaluate(LINES, [cone.ravel().tolist(), 40, 0.4])
    assert ring[0] == ring[-1]
    radii = [math.hypot(x - 20.3, y - 18.6) for x, y in ring]
    assert radii == pytest.approx([9] * len(radii), abs=0.05)
    slope = columns / 39
    (line,) = page.evaluate(LINES, [slope.ravel().tolist(), 40, 0.5])  # an open line, from one side to the other
    assert [x for x, _ in line] == pytest.approx([19.5] * 40)
    assert sorted(y for _, y in line) == list(range(40))
    two = np.maximum(cone, 1 - np.hypot(columns - 5, rows - 5) / 4)
    assert len(page.evaluate(LINES, [two.ravel().tolist(), 40, 0.4])) == 2
    # two high corners opposite each other: the value in the middle decides whether each gets its own line
    for low, around_high in ((-0.5, True), (0.45, False)):
        found = page.evaluate(LINES, [[1, low, low, 1], 2, 0.5])
        from_the_top = next(line for line in found if any(y == 0 for _, y in line))
        assert len(found) == 2
        assert any(x == 0 for x, _ in from_the_top) == around_high
    assert page.evaluate(LINES, [[0.5] * 9, 3, 0.7]) == []


def test_heatmap_is_drawn_in_lines_that_leave_the_skin_in_sight(page: Page, assess) -> None:
    assess(page, spot())
    expect(page.get_by_role("radio", name="Lines")).to_be_checked()
    page.wait_for_selector(".lines path.line", state="attached")
    # the lines surround the spot, and higher levels are narrower
    rings = page.locator(".lines .line")
    sizes = []
    for ring in rings.all():
        bounds = ring.evaluate("path => { const { x, y, width, height } = path.getBBox(); return { x, y, width, height }; }")
        if float(ring.get_attribute("data-level")) >= 0.2:  # completely inside the region
            assert bounds["x"] + bounds["width"] / 2 == pytest.approx((215 - 75) / 450, abs=0.03)
            assert bounds["y"] + bounds["height"] / 2 == pytest.approx(150 / 450, abs=0.03)
        sizes.append(bounds["width"])
    assert len(sizes) >= 4
    assert sizes == sorted(sizes, reverse=True)
    frame = page.locator(".frame")
    lines = shot(frame)
    page.get_by_role("radio", name="Colours").check()
    expect(page.locator(".caption")).to_contain_text("the stronger the colour")
    colours = shot(frame)
    page.get_by_role("checkbox", name="Show heatmap").uncheck()
    bare = shot(frame)

    def changed(seen: np.ndarray) -> float:
        return float((np.abs(seen - bare).sum(axis=2) > 30).mean())

    assert 0 < changed(lines) < 0.15
    assert changed(colours) > 2 * changed(lines)
    # white with a dark halo, so that one of them is visible on any skin
    touched = lines[np.abs(lines - bare).sum(axis=2) > 30].sum(axis=1)
    assert touched.max() > 700
    assert touched.min() < 250


def test_peak_of_the_heatmap_is_the_servers(page: Page) -> None:
    source = page.request.get(f"{page.url}js/answer/contours.js").text()
    assert f"const PEAK_ALPHA = {PEAK_ALPHA};" in source


def test_wheel_drag_and_double_click_move_picture_and_heatmap_as_one(page: Page, assess) -> None:
    assess(page, spot())
    photo, region, frame = page.locator(".photo"), page.locator(".region"), page.locator(".frame")
    level = page.locator(".zooms output")
    before = box(photo), box(region), box(frame)
    x, y = before[0]["x"] + 0.3 * before[0]["width"], before[0]["y"] + 0.4 * before[0]["height"]
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    expect(level).not_to_have_text("100%")
    after = box(photo), box(region), box(frame)
    by = after[0]["width"] / before[0]["width"]
    assert by == pytest.approx(math.exp(0.8), rel=0.01)
    assert after[1]["width"] / before[1]["width"] == pytest.approx(by, rel=0.01)
    assert after[2] == before[2]
    # the point under the pointer stays there, in both
    for old, new in zip(before[:2], after[:2], strict=True):
        assert (x - new["x"]) / new["width"] == pytest.approx((x - old["x"]) / old["width"], abs=0.005)
        assert (y - new["y"]) / new["height"] == pytest.approx((y - old["y"]) / old["height"], abs=0.005)
    page.mouse.down()
    page.mouse.move(x - 60, y - 30, steps=3)
    page.mouse.up()
    moved = box(photo), box(region)
    for old, new in zip(after[:2], moved, strict=True):
        assert new["x"] - old["x"] == pytest.approx(-60, abs=1)
        assert new["y"] - old["y"] == pytest.approx(-30, abs=1)
    expect(page.get_by_role("slider", name="Covered by the heatmap")).to_have_value("100")  # the dividing line stays where it is
    page.mouse.dblclick(x, y)
    expect(level).to_have_text("100%")
    page.mouse.dblclick(x, y)
    expect(level).to_have_text("250%")
    page.mouse.move(x, y)
    for _ in range(4):
        page.mouse.wheel(0, -2000)
    expect(level).to_have_text("800%")
    scrolled = page.evaluate("() => window.scrollY")
    for _ in range(2):
        page.mouse.wheel(0, 400)
    assert page.evaluate("() => window.scrollY") == scrolled
    # nothing outside the picture becomes visible
    inner, outer = box(photo), box(frame)
    assert inner["x"] <= outer["x"] + 0.5
    assert inner["x"] + inner["width"] >= outer["x"] + outer["width"] - 0.5


def test_the_page_scrolls_over_a_picture_that_is_whole(page: Page, assess) -> None:
    assess(page, spot())
    middle = box(page.locator(".frame"))
    page.mouse.move(middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2)
    page.mouse.wheel(0, 200)
    page.wait_for_function("() => window.scrollY > 100")
    taken = page.evaluate(
        """() => [100, -100].map((deltaY) => !document.querySelector('.frame')
          .dispatchEvent(new WheelEvent('wheel', { deltaY, bubbles: true, cancelable: true })))"""
    )
    assert taken == [False, False]  # scrolling back right away is still left to the page
    expect(page.locator(".zooms output")).to_have_text("100%")


def test_buttons_and_keys_zoom(page: Page, plain, assess, choose) -> None:
    assess(page, spot())
    level, pane = page.locator(".zooms output"), page.locator(".pane")
    assert level.get_attribute("aria-live") == "polite"
    for name, shown in (("Zoom in", "150%"), ("Zoom in", "225%"), ("Zoom out", "150%"), ("Whole picture", "100%")):
        page.get_by_role("button", name=name).click()
        expect(level).to_have_text(shown)
    stage = page.get_by_role("group", name="Plus and minus enlarge")
    stage.focus()
    scrolled = page.evaluate("() => window.scrollY")
    page.keyboard.press("+")
    expect(level).to_have_text("150%")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert pane.evaluate("pane => pane.style.transform") == "translate(-37%, -37%) scale(1.5)"
    assert page.evaluate("() => window.scrollY") == scrolled
    page.keyboard.press("0")
    expect(level).to_have_text("100%")
    page.keyboard.press("ArrowDown")  # the key scrolls the page again
    page.wait_for_function("before => window.scrollY > before", arg=scrolled)
    page.keyboard.press("+")
    choose(page, plain(red=40), "other.png")  # another picture starts unzoomed
    expect(level).to_have_text("100%")


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_nothing_glides_for_those_who_ask_for_that(new_page, service, assess, motion: str) -> None:
    page = new_page(service.url, reduced_motion=motion)
    assess(page, spot())
    page.get_by_role("button", name="Zoom in").click()
    duration = page.locator(".pane").evaluate("pane => getComputedStyle(pane).transitionDuration")
    assert (duration == "0s") == (motion == "reduce")


def test_two_fingers_enlarge_and_one_moves_what_is_enlarged(new_page, service, assess) -> None:
    page = new_page(service.url, width=360, height=740, has_touch=True, is_mobile=True)
    assess(page, spot())
    page.locator(".frame").scroll_into_view_if_needed()
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    frame = box(page.locator(".frame"))
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    scrolled = page.evaluate("() => window.scrollY")
    fingers("touchStart", (x - 20, y), (x + 20, y))
    for step in range(1, 9):
        fingers("touchMove", (x - 20 - 5 * step, y), (x + 20 + 5 * step, y))
    fingers("touchEnd")
    expect(page.locator(".zooms output")).to_have_text("300%")
    before = box(page.locator(".photo"))
    fingers("touchStart", (x, y))
    for step in range(1, 9):
        fingers("touchMove", (x, y - 10 * step))
    fingers("touchEnd")
    after = box(page.locator(".photo"))
    assert before["y"] - after["y"] > 50
    assert page.evaluate("() => window.scrollY") == scrolled
    assert page.evaluate("() => visualViewport.scale") == 1


def test_the_picture_stays_in_sight_while_the_answer_is_read(new_page, service, plain, assess) -> None:
    page = new_page(service.url, width=1440, height=900)
    assess(page, plain(red=230))
    page.evaluate("() => window.scrollTo(0, document.querySelector('#after').getBoundingClientRect().top + scrollY - 300)")
    assert page.evaluate("() => window.scrollY") > 700
    expect(page.locator(".frame")).to_be_in_viewport(ratio=1)
    covered = box(page.locator(".disclaimer"))
    assert box(page.locator(".frame"))["y"] >= covered["y"] + covered["height"]

"""axe finds no violation in any state, in light, dark and forced colours; also tests other automatable WCAG criteria."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.frontend.comparing import COMPARE, answering, comparison, open_comparison
from tests.frontend.steps import FINGER, MOUSE, assess_and_open_all, click_to_see, overflow, small_targets
from tests.languages import LANGUAGES

pytestmark = [pytest.mark.browser, pytest.mark.ci]
AXE = Axe()
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}
THEMES: dict[str, dict[str, str]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "forced": {"forced_colors": "active"},
}

Act = Callable[[Page], None]


def violations(page: Page) -> list[str]:
    # axe cannot assess a colour during a transition, so wait for all animations; a cancelled one counts as ended
    page.evaluate("() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished))")
    found = AXE.run(page, options=RULES).response["violations"]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def states(page: Page, plain: Callable[..., bytes], upload: Callable[..., dict]) -> Iterator[str]:
    """Takes the page from state to state and yields the name of each."""
    yield "start"
    page.set_input_files("#choose", upload(plain(red=20, green=10, blue=5)))
    expect(page.locator("#concerns")).to_be_visible()
    yield "ready, with concerns"
    click_to_see(page, "#edit", page.get_by_role("dialog"))
    yield "editor"
    page.keyboard.press("Escape")
    page.route("**/api/predict**", lambda route: None, times=1)
    click_to_see(page, "#assess", page.locator("#progress"))
    yield "sending"
    page.locator("#cancel").click()
    for decision, red, blue in [
        ("suspicious", 230, 10),
        ("low_suspicion", 40, 10),
        ("uncertain", 106, 10),
        ("rejected", 230, 220),
    ]:
        page.set_input_files("#choose", upload(plain(red=red, blue=blue)))
        assess_and_open_all(page, f".verdict[data-decision={decision}]")
        yield decision
        if decision == "suspicious":
            page.locator("input[value=clinical]").check()
            page.locator(".tools-open").click()
            yield "suspicious, for clinicians"
            page.locator("input[value=lay]").check()
    page.set_input_files("#choose", [upload(plain(red=230), "a.png"), upload(b"%PDF", "b.pdf", "application/pdf")])
    expect(page.locator(".queue li")).to_have_count(3)
    yield "queue"
    page.route("**/api/predict**", lambda route: route.fulfill(status=503, headers={"Retry-After": "60"}), times=1)
    click_to_see(page, "#assess", page.locator("derm-problem h2"))
    yield "problem that may be tried again"
    page.locator("#camera").evaluate("button => button.click()")
    expect(page.get_by_role("dialog")).to_be_visible()
    yield "question for the lens"
    click_to_see(page, "dialog .button.primary", page.locator("dialog video"))
    yield "live camera"
    page.keyboard.press("Escape")
    page.locator(".queue-choose").first.click()
    page.locator(".keep .button").click()
    page.locator(".keep select").first.wait_for()
    page.locator(".keep .button").click()
    page.locator(".keep a").wait_for()
    page.evaluate("() => { location.hash = 'history'; }")
    expect(page.locator(".dates img")).to_have_count(1)
    yield "history"
    click_to_see(page, ".dates .button:first-of-type", page.locator("dialog .traced img"))
    yield "picture of the history"
    page.keyboard.press("Escape")
    measure = open_comparison(page).locator(".measure")
    page.route(COMPARE, lambda route: route.fulfill(status=503, json={"code": "no_model"}), times=1)
    measure.locator(".button.primary").click()
    measure.locator("derm-problem h2").wait_for()
    yield "comparison that failed"
    page.route(COMPARE, answering(comparison("changed", "growth", "colour")), times=1)
    measure.locator(".button.primary").click()
    measure.locator("[data-result=changed]").wait_for()
    yield "comparison"
    for each in ("picture0", "picture1"):
        page.locator("dialog select").last.select_option(each)
    page.route(COMPARE, lambda route: None, times=1)
    measure.locator(".button.primary").click()
    measure.locator("progress").wait_for()
    yield "comparison under way"
    page.keyboard.press("Escape")
    for view in ("model", "integrate", "privacy"):
        page.evaluate("view => { location.hash = view; }", view)
        expect(page.locator(f".view-{view} .card").first).to_be_visible()
        yield view


@pytest.mark.parametrize("theme", ["light", "dark", pytest.param("forced", marks=pytest.mark.soak)])
def test_axe_finds_nothing_in_any_state(new_page, service, plain, upload, theme: str) -> None:
    page = new_page(service.url, **THEMES[theme])
    seen = []
    for state in states(page, plain, upload):
        assert violations(page) == [], state
        seen.append(state)
    assert len(seen) == 21


@pytest.mark.soak
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [320, 360, 768, 1440])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_state_in_every_language_width_and_theme(
    new_page, service, plain, upload, language: str, width: int, theme: str
) -> None:
    page = new_page(f"{service.url}?lang={language}", width=width, height=900, **THEMES[theme])
    for state in states(page, plain, upload):
        assert violations(page) == [], state
        assert overflow(page) <= 0, state
        dense = width == 1440 and state == "suspicious, for clinicians"
        assert small_targets(page, MOUSE if dense else FINGER) == [], state


@pytest.mark.parametrize("language", ["en", "ar"])
def test_320_pixels_hold_every_state(new_page, service, plain, upload, language: str) -> None:
    """Equivalent to a window of 1280 pixels at 400% zoom."""
    page = new_page(f"{service.url}?lang={language}", width=320, height=640)
    for state in states(page, plain, upload):
        assert overflow(page) <= 0, state
        assert small_targets(page) == [], state
        expect(page.locator(".disclaimer")).to_be_in_viewport()


def test_dialogs_return_the_focus_to_what_opened_them(page: Page, plain, choose) -> None:
    page.locator("#camera").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Is a dermatoscope lens on the camera?")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#camera")).to_be_focused()
    choose(page, plain(red=230))
    expect(page.locator("#edit")).to_be_visible()
    page.locator("#edit").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Square to be assessed")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#edit")).to_be_focused()


def test_views_take_the_focus_and_the_title(page: Page) -> None:
    for name, title in [("Model", "The model"), ("Privacy", "Privacy"), ("Check", "AI Dermatologist")]:
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(page.locator("h1:visible")).to_be_focused()
        assert page.title().startswith(title)
        assert page.get_by_role("navigation").get_by_role("link", name=name).get_attribute("aria-current") == "page"

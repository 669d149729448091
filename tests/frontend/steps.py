"""Steps and measurements shared by several page tests."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

# The target of a checkbox is its label; the target of a slider is its full height.
_SMALL_TARGETS = """least => [...document.querySelectorAll(
  'button, label.button, label.switch, input[type=range], summary, nav a, select')]
  .filter((e) => e.checkVisibility())
  .map((e) => ({ e, box: e.getBoundingClientRect() }))
  .filter(({ box }) => Math.min(box.height, box.width) < least - 0.1)
  .map(({ e, box }) => `${e.tagName} ${e.textContent.trim()} ${box.width}x${box.height}`)"""
FINGER = 44
"""Pixels that a finger needs to hit a target: WCAG 2.2, success criterion 2.5.5."""
MOUSE = 24
"""Pixels that a mouse needs: WCAG 2.2, success criterion 2.5.8."""


def small_targets(page: Page, least: int = FINGER) -> list[str]:
    """Targets with a side of fewer than ``least`` pixels."""
    return page.evaluate(_SMALL_TARGETS, least)


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def click_to_see(page: Page, button: str, *shown: Locator) -> None:
    """Clicks a button and waits until the expected elements are visible."""
    page.locator(button).click()
    for each in shown:
        expect(each).to_be_visible()


def assess_and_open_all(page: Page, verdict: str = ".verdict") -> None:
    """Has the chosen picture assessed and opens all details of the answer."""
    click_to_see(page, "#assess", page.locator(verdict), page.locator(".keep h2"))
    if page.locator(".more-open[aria-expanded=false]").is_visible():
        page.locator(".more-open").click()
    for summary in page.locator("summary:visible").all():
        summary.click()

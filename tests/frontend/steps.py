"""Steps and measurements that several files of page tests share."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

# Targets that a finger must hit: 44 px, WCAG 2.2's size. A checkbox and a slider are hit through their label and full height.
_SMALL_TARGETS = """() => [...document.querySelectorAll(
  'button, label.button, label.switch, input[type=range], summary, nav a, select')]
  .filter((e) => e.checkVisibility())
  .map((e) => ({ e, box: e.getBoundingClientRect() }))
  .filter(({ box }) => box.height < 43.9 || box.width < 43.9)
  .map(({ e, box }) => `${e.tagName} ${e.textContent.trim()} ${box.width}x${box.height}`)"""


def small_targets(page: Page) -> list[str]:
    """What is too small for a finger."""
    return page.evaluate(_SMALL_TARGETS)


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def click_to_see(page: Page, button: str, *shown: Locator) -> None:
    """Clicks, and waits until that shows what it should."""
    page.locator(button).click()
    for each in shown:
        expect(each).to_be_visible()


def assess_and_open_all(page: Page, verdict: str = ".verdict") -> None:
    """Has the chosen picture assessed, and opens everything that can be opened of the answer."""
    click_to_see(page, "#assess", page.locator(verdict), page.locator(".keep h2"))
    if page.locator(".more-open[aria-expanded=false]").is_visible():
        page.locator(".more-open").click()
    for summary in page.locator("summary:visible").all():
        summary.click()

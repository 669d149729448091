"""The page as it is printed or saved as PDF."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def printed(page: Page) -> str:
    """The texts on paper."""
    page.emulate_media(media="print")
    return str(page.evaluate("() => document.body.innerText"))


def test_report_holds_picture_figures_model_date_and_disclaimer(page: Page, plain, assess) -> None:
    assess(page, plain(red=230))
    text = printed(page)
    for part in (
        "Research use only; not a medical device; not a diagnosis.",
        "Suspicious",
        "90.2%, if 30 of 100 lesions examined like this one are malignant",
        "melanoma, version 1",
        str(datetime.now(UTC).year),
        "see a doctor whatever this says",
        "Melanoma",
    ):
        assert part in text
    for part in ("Check another picture", "Print or save as PDF", "History", "Look at the spot yourself"):
        assert part not in text
    assert page.locator(".paper-photo").is_visible()
    frame, heat = page.locator(".paper-frame").bounding_box(), page.locator(".paper-heat").bounding_box()
    assert heat["width"] / frame["width"] == pytest.approx(450 / 600, abs=0.01)
    assert heat["height"] == pytest.approx(frame["height"], abs=1)
    assert page.pdf().startswith(b"%PDF")


def test_rejected_picture_has_no_figure_on_paper(page: Page, plain, assess) -> None:
    assess(page, plain(red=230, blue=220))
    text = printed(page)
    assert "Not assessed" in text
    assert "%" not in text
    assert page.locator(".paper-heat").count() == 0


def test_dark_page_prints_on_white(new_page, service, plain, assess) -> None:
    page = new_page(service.url, color_scheme="dark")
    assess(page, plain(red=230))
    page.emulate_media(media="print")
    expect(page.locator(".paper")).to_be_visible()
    colours = page.evaluate(
        "() => [document.body, document.querySelector('.paper-card')].map((e) => getComputedStyle(e).backgroundColor)"
    )
    assert set(colours) <= {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}

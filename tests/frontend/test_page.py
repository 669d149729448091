"""The page before a picture is chosen: its text, structure and layout."""

from __future__ import annotations

import itertools
import re
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from tests.frontend.steps import overflow, small_targets
from tests.languages import LANGUAGES

pytestmark = pytest.mark.browser


def test_says_what_can_be_judged_before_any_picture(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("heading", name="Only dermoscopic pictures can be assessed")).to_be_visible()
    expect(page.locator(".guide")).to_contain_text("phone that has a dermatoscope lens")
    examples = page.locator(".examples img")
    assert examples.count() == 2
    for index in range(2):
        assert examples.nth(index).evaluate("image => image.complete && image.naturalWidth > 0")
    expect(page.locator(".privacy")).to_contain_text("not stored and not logged")
    expect(page.locator("main")).to_have_attribute("data-state", "empty")
    for hidden in ("#outcome", "derm-heatmap", "#progress", "#actions", "derm-findings", "#service-notice"):
        expect(page.locator(hidden)).to_be_hidden()


def test_whom_it_is_for_and_the_choice_stand_on_the_first_screen_of_a_phone(new_page, service) -> None:
    page = new_page(service.url, width=360, height=740, has_touch=True, is_mobile=True)
    for language in LANGUAGES:
        page.locator("#language").select_option(language)
        expect(page.locator("html")).to_have_attribute("lang", re.compile(f"^{language}"))
        expect(page.locator('[data-t="intro.who"]')).to_be_in_viewport()
        question, choice = page.locator(".drop-question").bounding_box(), page.locator("#choose").bounding_box()
        assert question["y"] + question["height"] <= choice["y"], language
        assert choice["y"] + choice["height"] <= 740, language
        assert page.locator(".guide").bounding_box()["y"] > choice["y"], language  # below the choice
        assert overflow(page) <= 0, language
        assert page.locator("nav").evaluate("nav => nav.scrollWidth <= nav.clientWidth"), language
        assert small_targets(page) == [], language


def test_footer_names_the_model_that_serves(page: Page) -> None:
    expect(page.locator("derm-service")).to_contain_text("melanoma, version 1")
    expect(page.locator("derm-service")).to_have_attribute("state", "ok")


def test_structure_for_assistive_technology(page: Page) -> None:
    for landmark in ("banner", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1
    levels = page.evaluate("() => [...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.evaluate("() => document.documentElement.lang") == "en"
    assert page.locator("[role=status]").count() == 1
    assert page.evaluate("() => [...document.images].every((image) => image.hasAttribute('alt'))")
    assert page.evaluate("() => [...document.querySelectorAll('input')].every((input) => input.labels.length > 0)")
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("width", [320, 1440])
def test_fits_its_window(new_page, service, width: int) -> None:
    page = new_page(service.url, width=width, height=800)
    expect(page.locator("derm-service")).to_contain_text("version")
    assert overflow(page) <= 0
    assert small_targets(page) == []


@pytest.mark.parametrize("width", [360, 1440])
def test_disclaimer_stays_in_sight(new_page, service, width: int) -> None:
    page = new_page(service.url, width=width, height=500)
    page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".disclaimer")).to_be_in_viewport(ratio=1)
    expect(page.locator(".disclaimer")).to_have_text("Research use only. Not a medical device. Not a diagnosis.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(new_page, service, contrast: str, scheme: str) -> None:
    page = new_page(service.url, color_scheme=scheme)
    expect(page.locator("derm-service")).to_contain_text("version")
    assert page.evaluate(contrast) == []


def test_nothing_moves_for_those_who_ask_for_that(new_page, service) -> None:
    page = new_page(service.url, reduced_motion="reduce")
    durations = page.evaluate(
        "() => [...document.querySelectorAll('*')].map((e) => getComputedStyle(e))"
        ".filter((s) => s.animationName !== 'none' || (s.transitionDuration !== '0s' && s.transitionProperty !== 'none')).length"
    )
    assert durations == 0


def test_security_policy_comes_with_the_page(service) -> None:
    connection = HTTPConnection(urlsplit(service.url).netloc, timeout=5)
    connection.request("GET", "/")
    response = connection.getresponse()
    markup = response.read().decode("utf-8")
    connection.close()
    policy = response.getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert response.getheader("Permissions-Policy").startswith("camera=(self), microphone=()")
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    assert "style=" not in markup
    assert "http:" not in markup
    assert "https:" not in markup

"""The page that shows reviewers every string in context, in each language."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect
from tests.languages import LANGUAGES, LOCALES

pytestmark = [pytest.mark.browser, pytest.mark.ci]
NOTES = json.loads((LOCALES / "notes" / "strings.json").read_text("utf-8"))["notes"]
SHOWN = """() => [...document.querySelectorAll('tr')].map((row) => [row.dataset.key,
  row.lastElementChild.lang, [...row.lastElementChild.children].map((text) => text.textContent),
  row.firstElementChild.textContent])"""


def test_each_string_is_shown_in_each_language_and_filled(new_page, service) -> None:
    page = new_page(f"{service.url}/strings.html?lang=fr", width=360)
    assert page.locator("meta[name=robots]").get_attribute("content") == "noindex"
    assert page.locator("#language").input_value() == "fr"
    for language in [code for code in LANGUAGES if code != "fr"] + ["fr"]:
        page.locator("#language").select_option(language)
        expect(page.locator("html")).to_have_attribute("data-language", language)
        rows = page.evaluate(SHOWN)
        assert {key for key, *_ in rows} == set(NOTES)
        assert len(rows) == len(NOTES)
        for key, tag, texts, described in rows:
            assert tag.split("-")[0] == language
            assert texts, key
            assert all(text.strip() and "{" not in text for text in texts), (key, texts)
            assert NOTES[key]["note"] in described
        wider = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) <= 0, language
    assert page.url.endswith("?lang=fr")
    whole = page.locator("tr[data-key='check.assessAll'] td:last-child p")
    assert [text.replace("\u202f", " ") for text in whole.all_inner_texts()] == [
        "Évaluer 1 image",
        "Évaluer les 2 images",
        "Évaluer les 1 000 000 images",
    ]


def test_search_finds_by_key_and_by_words_of_either_language(new_page, service) -> None:
    page = new_page(f"{service.url}/strings.html?lang=de")
    for wanted, key in [("nav.skip", "nav.skip"), ("skip to the", "nav.skip"), ("zum inhalt", "nav.skip")]:
        page.get_by_label("Search").fill(wanted)
        expect(page.locator("tr:visible")).to_have_count(1)
        expect(page.locator("tr:visible")).to_have_attribute("data-key", key)
    expect(page.locator("#found")).to_have_text("1")
    page.get_by_label("Search").fill("")
    expect(page.locator("tr:visible")).to_have_count(len(NOTES))

"""The page in each language: what is seen is translated, numbers and direction are the language's, safety is in English too."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect
from tests.frontend.steps import assess_and_open_all, click_to_see
from tests.languages import LANGUAGES, LOCALES, TRANSLATIONS
from tests.pseudo import pseudo

pytestmark = [pytest.mark.browser, pytest.mark.ci]
PARTS = ("", "answer/", "more/")

# Visible or spoken texts without the marks that the test put around every string. What comes from the server or from programs
# is marked as English or as code; numbers and units need no translation.
UNMARKED = """() => {
  const plain = (text) => text.replace(/⟦[^⟦⟧]*⟧/g, ' ').replace(/[\\d\\s.,:;%×·–+()−-]+/g, ' ').trim();
  const foreign = '[lang]:not(html), code, pre, kbd, option, noscript, .queue-name, .answer-of, select, time, .date, figcaption';
  const found = [];
  const walk = (root) => {
    for (const element of root.querySelectorAll('*')) {
      if (element.shadowRoot) walk(element.shadowRoot);
      if (element.closest(foreign) || !element.checkVisibility()) continue;
      for (const node of element.childNodes) {
        if (node.nodeType === 3 && plain(node.textContent)) found.push(plain(node.textContent));
      }
      for (const name of ['aria-label', 'alt', 'title', 'aria-valuetext', 'placeholder']) {
        const text = element.getAttribute(name);
        if (text && plain(text)) found.push(plain(text));
      }
    }
  };
  walk(document.body);
  return [...new Set(found)];
}"""
# Texts that are cut off or reach beyond what holds them, and a page that is wider than its window. What scrolls may be wider.
UNFIT = """() => {
  const found = [];
  const wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wider > 0) found.push(`the page is ${wider} pixels wider than its window`);
  const holders = 'button, .button, a, summary, label, th, td, li, figcaption, svg, dialog, .card';
  const scrolls = (element) => { for (let e = element; e; e = e.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(e).overflowX)) return true; } return false; };
  const walk = (root) => {
    for (const element of root.querySelectorAll('*')) {
      if (element.shadowRoot) walk(element.shadowRoot);
      const { textContent } = element;
      if (!textContent.includes('⟦') || !element.checkVisibility()) continue;
      if (element.closest('.visually-hidden, select, noscript, style')) continue;
      const style = getComputedStyle(element);
      const said = `${element.tagName} ${textContent.trim().slice(0, 60)}`;
      const [over, below] = [element.scrollWidth - element.clientWidth, element.scrollHeight - element.clientHeight];
      if (style.clipPath === 'inset(50%)') continue;  // for those who listen alone
      if (/hidden|clip/.test(style.overflowX) && over > 1) found.push(`cut off at the side: ${said}`);
      if (/hidden|clip/.test(style.overflowY) && below > 1) found.push(`cut off below: ${said}`);
      for (const node of element.childNodes) {
        if (node.nodeType !== 3 || !node.textContent.includes('⟦') || scrolls(element)) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        const holder = (element.closest(holders) ?? document.body).getBoundingClientRect();
        for (const box of range.getClientRects()) {
          if (box.width && (box.left < holder.left - 1 || box.right > holder.right + 1)) {
            found.push(`reaches out of what holds it: ${said}`);
            break;
          }
        }
      }
    }
  };
  walk(document.body);
  return [...new Set(found)];
}"""
# what the steerable model and the test bring along: names, units of Intl, formats
ALLOWED = {
    "melanoma",
    "openvino",
    "f",
    "PNG",
    "kB",
    "MB",
    "steerable",
    "lesion",
    "png",
    "curl",
    "Python",
    "JavaScript",
    "HTML",
} | set(LANGUAGES)


def strings(language: str) -> dict[str, Any]:
    return {
        key: value for part in PARTS for key, value in json.loads((LOCALES / f"{part}{language}.json").read_text("utf-8")).items()
    }


@pytest.fixture(params=[360, 1440])
def marked_page(new_page, service, request: pytest.FixtureRequest) -> Page:
    """The page in a language made out of English, with brackets around every string."""
    page = new_page(service.url, load=False, width=request.param)
    for part in PARTS:
        name = f"{part}en"
        body = json.dumps(pseudo(json.loads((LOCALES / f"{name}.json").read_text("utf-8"))))
        page.route(f"**/locales/{name}.json", partial(Route.fulfill, body=body, content_type="application/json"))
    page.goto(service.url + "?lang=en")
    # English stands in the markup already; the first change of language writes every string anew
    page.wait_for_selector("html[data-ready]")
    page.locator("#language").evaluate("select => select.dispatchEvent(new Event('change'))")
    expect(page.locator("h1")).to_contain_text("⟦")
    return page


def unmarked(page: Page) -> list[str]:
    """What is wrong with the page: texts that no language file holds, and those that do not fit."""
    hard_coded = [text for text in page.evaluate(UNMARKED) if not set(text.split()) <= ALLOWED]
    return hard_coded + page.evaluate(UNFIT)


def test_no_word_is_hard_coded(marked_page: Page, plain, choose) -> None:
    page = marked_page
    assert unmarked(page) == []
    choose(page, plain(red=20, green=10, blue=5))
    expect(page.locator("#concerns")).to_be_visible()
    assert unmarked(page) == []
    click_to_see(page, "#edit", page.get_by_role("dialog"))
    assert unmarked(page) == []
    page.keyboard.press("Escape")
    for red, blue in [(106, 10), (230, 220)]:
        choose(page, plain(red=red, blue=blue))
        assess_and_open_all(page)
        assert unmarked(page) == []
        page.locator("input[value=clinical]").check()
        page.locator(".keys-open").click()
        assert unmarked(page) == []
        page.keyboard.press("Escape")
        page.locator("input[value=lay]").check()
    choose(page, b"x", "a.heic", "image/heic")
    expect(page.locator("derm-problem")).to_be_visible()
    assert unmarked(page) == []
    click_to_see(page, "#camera", page.get_by_role("dialog"))
    assert unmarked(page) == []
    page.keyboard.press("Escape")
    for view in ("history", "model", "integrate", "privacy"):
        page.evaluate("view => { location.hash = view; }", view)
        expect(page.locator(f".view-{view} h1")).to_be_visible()
        page.wait_for_timeout(500)
        assert unmarked(page) == []


def test_browser_decides_and_the_address_keeps_the_choice(new_page, service) -> None:
    page = new_page(service.url, locale="de-AT")
    expect(page.get_by_role("heading", level=1)).to_have_text(strings("de")["intro"]["title"])
    assert page.evaluate("() => document.documentElement.lang") == "de"
    page.get_by_label("Sprache").select_option("es")
    expect(page.get_by_role("heading", level=1)).to_have_text(strings("es")["intro"]["title"])
    assert page.url.endswith("?lang=es")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text(strings("es")["intro"]["title"])
    expect(page).to_have_title(strings("es")["title"]["check"])


@pytest.mark.parametrize(
    ("accepted", "query", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "", "de"),
        ("it-IT, it;q=0.9, es;q=0.5", "", "es"),
        ("it,eng", "", "en"),
        ("de", "?lang=ar", "ar"),
        ("de", "?lang=xx", "de"),
        ("", "", "en"),
    ],
)
def test_words_set_out_with_the_document(service, accepted: str, query: str, language: str) -> None:
    answer = httpx.get(f"{service.url}/{query}", headers={"Accept-Language": accepted})
    assert answer.headers["link"] == f"<locales/{language}.json>; rel=preload; as=fetch; crossorigin"
    assert "accept-language" in answer.headers["vary"].lower()
    assert "link" not in httpx.get(f"{service.url}/js/main.js").headers


@pytest.mark.parametrize("language", ["en", "de"])
def test_words_are_fetched_once(new_page, service, language: str) -> None:
    page = new_page(service.url, locale=language)
    script = "name => performance.getEntriesByType('resource').filter(({name: url}) => url.endsWith(name)).length"
    assert page.evaluate(script, f"locales/{language}.json") == 1


def test_changing_the_language_keeps_the_answer(page: Page, plain, assess) -> None:
    assess(page, plain(red=230))
    page.get_by_label("Language").select_option("de")
    german = strings("de")
    expect(page.locator(".verdict h2")).to_have_text(german["verdict"]["suspicious"]["title"])
    expect(page.locator(".whatever").first).to_have_text(german["safety"]["whatever"])
    expect(page.locator("derm-scale")).to_contain_text("90\u00a0%")
    expect(page.locator("derm-service")).to_contain_text("Version 1")


# whether the chosen entry fits into its list, beside the arrow
CHOSEN_FITS = """select => { const style = getComputedStyle(select);
  const pen = document.createElement('canvas').getContext('2d');
  pen.font = style.font;
  const text = pen.measureText(select.selectedOptions[0].textContent).width;
  return text + parseFloat(style.paddingLeft) + parseFloat(style.paddingRight) + 16 <= select.clientWidth; }"""


def test_translations_show_the_english_safety_sentences_one_tap_away(new_page, service, plain, assess) -> None:
    page = new_page(service.url, width=360)
    assess(page, plain(red=40))
    english = strings("en")
    for language in TRANSLATIONS:
        page.locator("#language").select_option(language)
        own = strings(language)
        expect(page.locator(".verdict h2")).to_have_text(own["verdict"]["low_suspicion"]["title"])
        note = page.locator("#translation summary")
        expect(note).to_have_text(own["translation"]["unreviewed"])
        note.click()
        safety = page.locator("#translation-english")
        expect(safety).to_contain_text(english["safety"]["whatever"])
        expect(safety).to_contain_text(english["verdict"]["low_suspicion"]["meaning"])
        assert safety.get_attribute("lang") == "en"
        page.locator(".verdict .english summary").click()
        expect(page.locator(".verdict .english")).to_contain_text(english["safety"]["whatever"])
        for place in ("", "0.02", "0.1", "0.3"):
            page.locator(".place select").select_option(place)
            assert page.locator(".place select").evaluate(CHOSEN_FITS), (language, place)
        page.locator(".place select").select_option("")


def test_arabic_runs_from_right_to_left(new_page, service, plain, choose, open_more) -> None:
    page = new_page(service.url + "?lang=ar", width=1280)
    assert page.evaluate("() => getComputedStyle(document.body).direction") == "rtl"
    picture, guide = page.locator(".picture").bounding_box(), page.locator(".guide").bounding_box()
    assert picture["x"] > guide["x"]
    choose(page, plain(red=230))
    page.locator("#assess").click()
    expect(page.locator(".verdict")).to_be_visible()
    open_more(page)
    # places on the picture and on the scale are not mirrored
    track, pin = page.locator(".track").bounding_box(), page.locator(".pin").bounding_box()
    drawn = 0.5 + math.log(230 / 25) / (2 * math.log(999))  # in log-odds, from 0.1% to 99.9%
    assert (pin["x"] + pin["width"] / 2 - track["x"]) / track["width"] == pytest.approx(drawn, abs=0.02)
    split = page.locator("#heat-split")
    split.focus()
    page.keyboard.press("ArrowLeft")
    expect(split).to_have_value("99")


def test_language_that_cannot_be_loaded_leaves_english(new_page, service) -> None:
    page = new_page(service.url, load=False)

    def fail(route: Route) -> None:
        route.fulfill(status=404)

    page.route("**/locales/de.json", fail)
    page.goto(service.url + "?lang=de")
    page.wait_for_selector("html[data-ready]")
    expect(page.get_by_role("heading", level=1)).to_have_text(strings("en")["intro"]["title"])
    assert page.evaluate("() => document.documentElement.lang") == "en"


def _hold(page: Page, name: str) -> list[Route]:
    """Requests for this file of locales/, which are not answered until the test does."""
    held: list[Route] = []
    page.route(f"**/locales/{name}.json", lambda route: held.append(route))
    return held


def test_picture_chosen_while_a_language_is_on_its_way(new_page, service, plain, choose) -> None:
    """On a slow network the answer's strings are asked for before the new language has arrived."""
    page = new_page(service.url + "?lang=de")
    held = _hold(page, "en")
    with page.expect_request("**/locales/en.json"):
        page.locator("#language").select_option("en")
    with page.expect_response("**/locales/answer/de.json"):
        choose(page, plain(red=230))
    expect(page.get_by_role("button", name=strings("de")["check"]["assess"])).to_be_visible()
    held[0].continue_()
    page.get_by_role("button", name=strings("en")["check"]["assess"]).click()
    expect(page.locator(".verdict h2")).to_have_text(strings("en")["verdict"]["suspicious"]["title"])
    expect(page.get_by_role("button", name=strings("en")["history"]["turnOn"])).to_be_visible()


def test_language_chosen_last_is_spoken_whichever_arrives_last(new_page, service) -> None:
    page = new_page(service.url)
    held = _hold(page, "de")
    with page.expect_request("**/locales/de.json"):
        page.locator("#language").select_option("de")
    page.locator("#language").select_option("fr")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text(strings("fr")["intro"]["title"])
    with page.expect_response("**/locales/de.json"):
        held[0].continue_()
    page.evaluate("() => new Promise((done) => setTimeout(done, 200))")  # until the page has read it
    expect(heading).to_have_text(strings("fr")["intro"]["title"])
    expect(page.locator("#language")).to_have_value("fr")
    assert page.evaluate("() => document.documentElement.lang") == "fr"


def test_numbers_are_written_as_the_language_does(page: Page) -> None:
    script = """async ([language, made]) => {
      const i18n = await import(new URL('js/i18n.js', location.href));
      await i18n.useLanguage(language);
      await i18n.useWords('answer');
      const counted = made.map((count) => i18n.t('history.imported', { count }));
      return [i18n.tagOf(language), i18n.percent(0.82), i18n.number(1234.5, 5), i18n.date(new Date(2026, 2, 9)), ...counted];
    }"""
    expected = {
        "en": ["en", "82%", "1,234.5", "March 9, 2026"],
        "de": ["de", "82\u00a0%", "1.234,5", "9. März 2026"],
        "es": ["es", "82\u00a0%", "1234,5", "9 de marzo de 2026"],
        "fr": ["fr", "82\u202f%", "1\u202f234,5", "9 mars 2026"],
        "pt": ["pt-BR", "82%", "1.234,5", "9 de março de 2026"],
        "hi": ["hi", "82%", "1,234.5", "9 मार्च 2026"],  # with Latin digits: what CLDR has for Hindi
        "zh": ["zh-Hans", "82%", "1,234.5", "2026年3月9日"],
    }
    for language, written in expected.items():
        forms = strings(language)["history"]["imported"]
        tag, *shown = page.evaluate(script, [language, [0, 1, 2]])
        assert [tag, *(text.replace("\u00a0%", "\u202f%") if language == "fr" else text for text in shown[:3])] == written
        none = "one" if language in {"fr", "pt", "hi"} else "other"  # nought is singular there
        one = "one" if "one" in forms else "other"
        assert shown[3:] == [forms[form].replace("{count}", str(n)) for n, form in enumerate([none, one, "other"])]

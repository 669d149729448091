"""Answers for lay readers are short and plain, those for clinicians fit on one screen, and shortcuts work for the latter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from tests.frontend.steps import MOUSE, small_targets

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "frontend" / "public" / "locales"
LANGUAGES = sorted(file.stem for file in LOCALES.glob("*.json"))
MOST_WORDS = 60
# A US school grade; twelve-year-olds are in the sixth or seventh.
MOST_GRADE = 6.5
CLINICAL = "localStorage.setItem('aiderm-depth', 'clinical')"
# Chinese has no spaces between words; a word has about 1.6 characters.
CHARACTERS_A_WORD = 1.6


def strings(language: str) -> dict:
    own = json.loads((LOCALES / f"{language}.json").read_text("utf-8"))
    return own | json.loads((LOCALES / "answer" / f"{language}.json").read_text("utf-8"))


def forms(value: str | dict[str, str]) -> list[str]:
    return list(value.values()) if isinstance(value, dict) else [value]


def words(text: str) -> float:
    characters = re.findall(r"[\u4e00-\u9fff]", text)
    spaced = [word for word in re.sub(r"[\u4e00-\u9fff]", " ", text).split() if any(map(str.isalnum, word))]
    return len(spaced) + len(characters) / CHARACTERS_A_WORD


def answers(language: str) -> dict[str, str]:
    """The longest lay answer for each decision and next step."""
    own = strings(language)
    brief, step = own["brief"], own["brief"]["do"]
    shares = [text.replace("{count}", "42").replace("{total}", "100") for text in forms(own["number"]["shareAbout"])]
    amounts = [own["verdict"]["fewerThanOne"], brief["about"].replace("{count}", "82")]
    sure = max(
        (brief["sure"].replace("{about}", about).replace("{share}", share) for about in amounts for share in shares), key=words
    )
    steps = {"suspicious": ("now", "soon"), "low_suspicion": ("watch",), "uncertain": ("book",), "rejected": ("retake",)}
    return {
        f"{decision}, {at}": " ".join(
            [
                own["verdict"][decision]["title"] + ".",
                brief[decision],
                "" if decision == "rejected" else sure,
                step[at],
                own["safety"]["whatever"],
            ]
        )
        for decision, several in steps.items()
        for at in several
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lay_answer_has_at_most_sixty_words(language: str) -> None:
    counts = {name: words(text) for name, text in answers(language).items()}
    assert {name: count for name, count in counts.items() if count > MOST_WORDS} == {}
    assert min(counts.values()) > 15


def syllables(word: str) -> int:
    """The number of syllables of an English word: its groups of vowels, without a silent e."""
    found = len(re.findall(r"[aeiouy]+", word))
    silent = re.search(r"[^aeiouyl]e$|[^aeiouytd]ed$|[^aeiouscxz]es$", word)
    return max(1, found - bool(silent))


def grade(text: str) -> float:
    """Flesch-Kincaid grade level (Kincaid et al. 1975); a number counts as a word of one syllable."""
    found = [word.lower() for word in re.findall(r"[A-Za-z']+|\d+", text)]
    sentences = len(re.findall(r"[.!?:](?:\s|$)", text))
    return 0.39 * len(found) / sentences + 11.8 * sum(map(syllables, found)) / len(found) - 15.59


def test_a_lay_answer_reads_at_the_age_of_twelve() -> None:
    assert grade("The model sees signs that it has also seen in malignant dermatological abnormalities.") > 11  # a hard sentence
    grades = {name: grade(text) for name, text in answers("en").items()}
    assert {name: value for name, value in grades.items() if value > MOST_GRADE} == {}


def figures_of(page: Page) -> dict[str, str]:
    """The figures that must not differ between depths."""
    return {
        "decision": page.locator(".verdict").get_attribute("data-decision"),
        "title": page.locator(".verdict h2").inner_text(),
        "dots": str(page.locator(".verdict .dots .full").count()),
        "legend": page.locator("derm-scale .legend").evaluate("e => e.textContent"),
        "classes": page.locator(".classes").evaluate("e => e.textContent"),
        "facts": page.locator("derm-findings .facts").evaluate("e => e.textContent"),
    }


@pytest.mark.browser
def test_lay_first_and_everything_one_tap_away(page: Page, plain: Callable[..., bytes], choose: Callable[..., None]) -> None:
    choose(page, plain(red=230))
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.get_by_role("radio", name="For you")).to_be_checked()
    brief = page.locator(".brief")
    expect(brief).to_contain_text("Of 100 spots like this, about 90 are skin cancer, where 30 of 100 lesions are.")
    expect(brief.locator(".dots .full")).to_have_count(90)
    shown = page.locator(".verdict h2").inner_text() + " " + brief.inner_text()
    assert words(shown) <= MOST_WORDS
    rest = ("derm-scale", ".classes", ".next", "derm-findings details", ".place")
    for part in rest:
        expect(page.locator(part)).to_be_hidden()
    more = page.get_by_role("button", name="More about this answer")
    expect(more).to_have_attribute("aria-expanded", "false")
    more.click()
    for part in rest:
        expect(page.locator(part)).to_be_visible()
    # the chosen place of examination also changes the short sentence
    page.get_by_label("Where is the spot examined?").select_option(label="Family practice: 2%")
    expect(brief).to_contain_text("Of 100 spots like this, about 30 are skin cancer, where 2 of 100 lesions are.")
    expect(brief.locator(".dots .full")).to_have_count(30)
    # the details stay open for the next picture
    choose(page, plain(red=40))
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator("derm-scale")).to_be_visible()


@pytest.mark.browser
def test_the_depth_is_chosen_on_the_answer_said_and_remembered(new_page, service, plain, assess) -> None:
    page = new_page(service.url)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/predict" in request.url else None)
    assess(page, plain(red=230))
    before = figures_of(page)
    page.get_by_role("radio", name="For you").focus()
    page.keyboard.press("ArrowRight")  # arrow keys switch radio buttons
    expect(page.locator("main")).to_have_attribute("data-depth", "clinical")
    expect(page.get_by_role("radio", name="For clinicians")).to_be_focused()
    expect(page.locator("#status")).to_have_text("The answer is now shown with everything behind it.")
    expect(page.locator(".brief")).to_have_count(0)
    for part in ("derm-scale", ".classes", ".next", "derm-findings .facts"):
        expect(page.locator(part)).to_be_visible()
    assert figures_of(page) == before
    assert len(sent) == 1
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assess(page, plain(red=230))
    expect(page.get_by_role("radio", name="For clinicians")).to_be_checked()
    page.get_by_role("radio", name="For you").check()
    assert page.evaluate("() => localStorage.length") == 0  # the default choice is not stored


PARTS = (
    ".frame",
    ".controls",
    ".verdict",
    "derm-scale",
    ".next",
    ".classes",
    ".figures summary",
    ".warnings",
    "derm-lesion",
    ".disclaimer",
)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("language", "several", "size"),
    [("fr", False, (1440, 900)), ("en", True, (1440, 900)), ("de", False, (1440, 900)), ("en", False, (1920, 1080))],
)
@pytest.mark.ci
def test_clinicians_see_everything_on_one_screen(
    new_page, service, plain, upload, language: str, several: bool, size: tuple[int, int]
) -> None:
    page = new_page(service.url, width=size[0], height=size[1], load=False)
    page.add_init_script(CLINICAL)
    warnings = [{"code": code, "text": "", "advisory": True} for code in ("hair", "sharpness")]

    def warned(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["quality"]["warnings"] = warnings
        even = {"id": "bkl", "name": "B", "probability_at_even_prevalence": 0.62, "note": ""}
        measure = {"value": 0.119, "low": 0.089, "high": 0.178}
        lesion = dict.fromkeys(("area", "diameter", "asymmetry"), measure) | {"border": {"value": 1.1, "low": 1.0, "high": 1.3}}
        lesion["outline"] = [[150, 150], [350, 170], [300, 350]]
        lesion["colours"] = [{"name": name, "share": 0.3} for name in ("dark_brown", "light_brown", "blue_grey")]
        route.fulfill(response=answer, json=body | {"most_likely": even, "lesion": lesion})

    page.route("**/api/predict*", warned)
    page.goto(f"{service.url}?lang={language}")
    page.wait_for_selector("html[data-ready]")
    page.set_input_files("#choose", [upload(plain(red=230, width=500, height=500), f"{at}.png") for at in range(1 + 7 * several)])
    page.locator("#assess-all" if several else "#assess").click()
    expect(page.locator(".queue li[data-state=result]")).to_have_count(8 * several)
    expect(page.locator(".keep h2")).to_be_attached()
    assert page.evaluate("() => document.documentElement.scrollHeight") <= size[1]
    for part in (*PARTS, *([".queue"] if several else [])):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
    expect(page.locator("#after")).to_be_hidden()
    page.locator(".tools-open").click()
    expect(page.locator("#after .paper-card button")).to_be_visible()
    assert small_targets(page, MOUSE) == []


@pytest.mark.browser
@pytest.mark.ci
def test_clinicians_with_a_tablet_have_targets_for_fingers(new_page, service, plain, upload) -> None:
    page = new_page(service.url, width=1366, height=1024, has_touch=True, is_mobile=True, load=False)
    page.add_init_script(CLINICAL)
    page.goto(service.url)
    page.wait_for_selector("html[data-ready]")
    page.set_input_files("#choose", upload(plain(red=230)))
    page.locator("#assess").click()
    expect(page.locator(".keep h2")).to_be_attached()
    page.locator(".tools-open").click()
    expect(page.locator("#after .paper-card button")).to_be_visible()
    assert small_targets(page) == []


@pytest.mark.browser
@pytest.mark.ci
def test_shortcuts_work_for_clinicians_and_rest_in_fields(new_page, service, plain, upload) -> None:
    page = new_page(service.url)
    page.evaluate("() => { window.print = () => { window.printed = true; }; }")
    page.set_input_files("#choose", [upload(plain(red=red), f"{red}.png") for red in (230, 128, 40)])
    page.get_by_role("button", name="Assess all 3 pictures").click()
    expect(page.locator("#queue-title")).to_be_focused()
    name, main = page.locator("#answer-name"), page.locator("main")
    expect(name).to_have_text("230.png")
    page.keyboard.press("n")  # no shortcuts for lay readers
    expect(name).to_have_text("230.png")
    page.get_by_role("radio", name="For clinicians").check()
    for key, shown in (("n", "128.png"), ("n", "40.png"), ("n", "40.png"), ("b", "128.png")):
        page.keyboard.press(key)
        expect(name).to_have_text(shown)
    page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ب', code: 'KeyB', bubbles: true }))")
    expect(name).to_have_text("230.png")  # on an Arabic keyboard the key's position counts
    page.keyboard.press("h")
    expect(page.get_by_role("checkbox", name="Show heatmap")).not_to_be_checked()
    page.keyboard.press("c")
    expect(page.get_by_role("radio", name="Colours")).to_be_checked()
    page.locator("#queue-title").focus()  # away from the radio buttons, which use the arrow keys themselves
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".zooms output")).to_have_text("150%")
    assert page.locator(".pane").evaluate("pane => pane.style.transform").startswith("translate(-37")
    page.keyboard.press("0")
    expect(page.locator(".zooms output")).to_have_text("100%")
    page.keyboard.press("p")
    assert page.evaluate("() => window.printed")
    page.get_by_label("Where is the spot examined?").focus()
    page.keyboard.press("d")  # a select field handles letters itself
    expect(main).to_have_attribute("data-depth", "clinical")
    page.locator("#queue-title").focus()
    page.keyboard.press("Control+d")  # this is the browser's shortcut
    expect(main).to_have_attribute("data-depth", "clinical")
    page.keyboard.press("k")
    expect(page.locator(".keep :focus")).to_be_visible()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog.locator("dt")).to_have_text(["N", "B", "H", "C", "O", "+", "-", "0", "D", "K", "P", "?", "ARROW KEYS"])
    page.keyboard.press("d")
    expect(main).to_have_attribute("data-depth", "clinical")
    dialog.get_by_role("checkbox", name="Use the keyboard shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(main).to_have_attribute("data-depth", "clinical")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator(".verdict")).to_be_visible()  # a reload loses no answer
    page.keyboard.press("d")
    expect(main).to_have_attribute("data-depth", "clinical")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    dialog.get_by_role("checkbox", name="Use the keyboard shortcuts").check()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(main).to_have_attribute("data-depth", "lay")

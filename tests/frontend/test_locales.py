"""The strings of each language: none missing, unused or hard-coded; needs no browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.pseudo import LONGER, pseudo

PUBLIC = Path(__file__).resolve().parents[2] / "frontend" / "public"
SOURCES = [*sorted((PUBLIC / "js").rglob("*.js")), *sorted((PUBLIC / "embed").rglob("*.js"))]
# CLDR's plural categories for the whole numbers that the page shows
PLURALS = {
    "en": {"one", "other"},
    "de": {"one", "other"},
    "es": {"one", "many", "other"},
    "fr": {"one", "many", "other"},
    "pt": {"one", "many", "other"},
    "ar": {"zero", "one", "two", "few", "many", "other"},
    "hi": {"one", "other"},
    "zh": {"other"},
}
CATEGORIES = set().union(*PLURALS.values())
FOLDERS = [PUBLIC / "locales" / part for part in ("", "answer", "more")]
Value = str | list[str] | dict[str, str]


def strings(language: str) -> dict[str, Value]:
    def walk(node: dict[str, object], prefix: str) -> Iterator[tuple[str, Value]]:
        for key, value in node.items():
            if isinstance(value, dict) and not ("other" in value and set(value) <= CATEGORIES):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    files = [folder / f"{language}.json" for folder in FOLDERS]
    return dict(pair for file in files for pair in walk(json.loads(file.read_text("utf-8")), ""))


def forms(value: Value) -> list[str]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]


def places(value: Value) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", " ".join(forms(value))))


ENGLISH = strings("en")


def test_the_list_of_languages_is_the_folder() -> None:
    declared = re.search(r"LANGUAGES = \{(.*?)\n\};", (PUBLIC / "js" / "i18n.js").read_text("utf-8"), re.S)
    assert declared
    names = set(re.findall(r"^  (\w+):", declared[1], re.M))
    for folder in FOLDERS:
        assert names == {file.stem for file in folder.glob("*.json")} == set(PLURALS)


@pytest.mark.parametrize("language", sorted(PLURALS))
def test_no_string_is_missing(language: str) -> None:
    own = strings(language)
    assert set(own) == set(ENGLISH)
    for key, english in ENGLISH.items():
        value = own[key]
        assert type(value) is type(english), key
        assert places(value) == places(english), key
        assert all(text.strip() for text in forms(value)), key
        if isinstance(value, dict):
            assert set(value) == PLURALS[language], key
        if isinstance(value, list):
            assert len(value) == len(english), key


@pytest.mark.parametrize("language", sorted(set(PLURALS) - {"en"}))
def test_strings_are_translated(language: str) -> None:
    own = strings(language)
    # short strings may be equal: names, formats, and words that are the same in both languages
    said = {key: re.sub(r"\{\w+\}", "", " ".join(forms(value))) for key, value in ENGLISH.items()}
    assert [key for key, words in said.items() if own[key] == ENGLISH[key] and len(words) > 20] == []


# a dotted path in quotes, or in backquotes with placeholders: verdict.${decision}.title
KEY = re.compile(r"""(["`])((?:[a-z][A-Za-z]*|\$\{[^}`]+\})(?:\.(?:[\w-]|\$\{[^}`]+\})+)+)\1""")
DIRECT = re.compile(r"""\b(?:t|texts|has)\(\s*"([^"]+)\"""")
BY_CODE_OF_THE_SERVER = {"quality", "note", "problem", "reason", "class"}


def test_code_asks_for_strings_that_there_are_and_for_all_of_them() -> None:
    code = "\n".join(file.read_text("utf-8") for file in SOURCES)
    markup = (PUBLIC / "index.html").read_text("utf-8")
    pairs = " ".join(re.findall(r'data-t-attrs="([^"]+)"', markup))
    direct = set(DIRECT.findall(code)) | set(re.findall(r'data-t="([^"]+)"', markup)) | set(re.findall(r"=([\w.]+)", pairs))
    assert direct - {"key"} - set(ENGLISH) == set()
    asked = {name for _, key in KEY.findall(code) for name in ENGLISH if re.fullmatch(_pattern(key), name)}
    unused = {key for key in set(ENGLISH) - asked - direct if key.split(".")[0] not in BY_CODE_OF_THE_SERVER}
    assert unused == set()


def _pattern(key: str) -> str:
    return r"[\w-]+(?:\.[\w-]+)?".join(re.escape(part) for part in re.split(r"\$\{[^}]+\}", key))


class Texts(HTMLParser):
    """Collects texts and attributes of the page's markup with their string keys."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str | None] = []
        self.found: list[tuple[str | None, str]] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for pair in (values.get("data-t-attrs") or "").split():
            name, key = pair.split("=")
            self.attributes.append((key, values[name] or ""))
        for name in {"alt", "aria-label", "title", "placeholder"} & set(values):
            assert not values[name] or f"{name}=" in (values.get("data-t-attrs") or ""), f"{tag} has a {name} without a key"
        if tag not in {"meta", "link", "img", "input", "br", "path", "circle"}:
            self.keys.append(values.get("data-t"))

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "circle"}:
            self.keys.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append((self.keys[-1], data.strip()))


def test_markup_says_what_the_english_strings_say() -> None:
    """The markup is shown before any script runs."""
    parser = Texts()
    parser.feed((PUBLIC / "index.html").read_text("utf-8"))
    without_key = {text for key, text in parser.found if key is None}
    assert without_key == {
        "English",
        "This page needs JavaScript to send a picture to the server.",
        "Ctrl", "⌘", "V", "+", "(", ")",
    }  # fmt: skip
    for key, text in [*((key, text) for key, text in parser.found if key), *parser.attributes]:
        assert ENGLISH[key] == text


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PUBLIC)))
def test_no_sentence_stands_in_the_code(file: Path) -> None:
    source = re.sub(r"/\*.*?\*/|^\s*//.*?$|\s//\s.*?$", "", file.read_text("utf-8"), flags=re.S | re.M)
    if file.name == "integrate.js":
        source = source.split("const ATTRIBUTES")[1]  # the part before it has code samples, which are not translated
    literals = re.findall(r'"((?:[^"\\\n]|\\.)*)"', source)
    # two or more words of letters, starting with a capital: a sentence or a label
    spoken = [text for text in literals if re.match(r"[A-Z][a-z]+ [a-z]+", text)]
    assert spoken == []


@pytest.mark.parametrize("language", sorted(PLURALS))
def test_safety_stands_in_each_language(language: str) -> None:
    own = strings(language)
    for decision in ("suspicious", "low_suspicion", "uncertain", "rejected"):
        meaning = str(own[f"verdict.{decision}.title"]) + str(own[f"verdict.{decision}.meaning"])
        assert not re.search(
            r"b[ée]nin|benign|harmless|inof+ensi|sans danger|gutartig|harmlos|حميد|良性|无害|सौम्य|हानिरहित", meaning, re.I
        )
    assert str(own["safety.whatever"]) != str(own["disclaimer.all"])


def test_language_made_for_tests_keeps_places_and_is_longer() -> None:
    for key, value in ENGLISH.items():
        made: Value = pseudo(value)
        assert places(made) == places(value), key
        for text, english in zip(forms(made), forms(value), strict=True):
            for longer, words in zip(re.findall("⟦(.*?)⟧", text), filter(None, re.split(r"\{\w+\}", english)), strict=True):
                assert len(longer) >= len(words) * LONGER or not re.search("[aeiouy]", words, re.I), key


def test_french_signs_stand_on_the_line_of_their_word() -> None:
    """There is a no-break space before them and inside quotation marks."""
    for key, value in strings("fr").items():
        for text in forms(value):
            assert not re.search(r" [;:!?»%]|« ", text), key


def test_chinese_has_its_own_punctuation() -> None:
    for key, value in strings("zh").items():
        for text in forms(value):
            assert not re.search(r"[\u4e00-\u9fff][,.;:!?]|[,;:!?][\u4e00-\u9fff]", text), key


NOTES = json.loads((PUBLIC / "locales" / "notes" / "strings.json").read_text("utf-8"))


def test_each_string_has_a_note_for_translators_that_explains_its_places() -> None:
    notes = NOTES["notes"]
    assert set(notes) == set(ENGLISH)
    said = [entry["note"] for entry in notes.values()]
    assert sorted(said) == sorted(set(said))  # no two strings share a note
    for key, entry in notes.items():
        assert len(entry["note"]) > 10, key
        assert entry["note"] not in forms(ENGLISH[key]), key
        assert entry["look"] in NOTES["looks"], key
        own = entry.get("places", {})
        assert set(own) <= places(ENGLISH[key]) <= set(own) | set(NOTES["places"]), key
        assert all(place["note"] and place["example"] not in ("", None) for place in own.values()), key
    sections = [section for listed in NOTES["screens"].values() for section in listed]
    assert sorted(sections) == sorted({key.split(".")[0] for key in ENGLISH})


@pytest.mark.parametrize("language", sorted(PLURALS))
def test_texts_are_as_short_as_their_notes_ask(language: str) -> None:
    for key, value in strings(language).items():
        most = NOTES["looks"][NOTES["notes"][key]["look"]].get("max")
        assert most is None or all(len(text) <= most for text in forms(value)), key


@pytest.mark.parametrize("language", sorted(PLURALS))
def test_buttons_that_texts_name_are_called_so(language: str) -> None:
    own = strings(language)
    assert str(own["history.keep.save"]) in str(own["history.emptyText"])
    assert str(own["history.deleteAll"]) in " ".join(forms(own["privacy.kept.text"]))


def test_the_model_page_names_metrics_that_a_manifest_holds() -> None:
    """The page shows the metrics that it has names for, in the order in which the trainer wrote them."""
    named = {key.removeprefix("metric.") for key in ENGLISH if key.startswith("metric.")}
    models = PUBLIC.parents[1] / "models" / "melanoma"
    manifest = models / (models / "SERVING").read_text().strip() / "manifest.json"
    assert named <= set(json.loads(manifest.read_text("utf-8"))["metrics"]["test"])

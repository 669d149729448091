"""The page shows the server's English sentences in its own language, or marks them as English."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from tests.languages import TRANSLATIONS

from aiderm_api.errors import problems
from aiderm_core.bundle.manifest import Label
from aiderm_trainer.data.labels import BINARY
from aiderm_trainer.export.bundle import INTENDED_USE, _limitations

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
OWN = (Label(id="nv", name="Melanocytic naevus", malignant=False), Label(id="odd", name="Odd", malignant=True))
SERVED = """async ([language, sentences]) => {
  const [{ served }, { useLanguage, useWords }] = await Promise.all(
    ['js/served.js', 'js/i18n.js'].map((file) => import(new URL(file, location.href))));
  await useLanguage(language);
  await useWords('answer');
  return sentences.map((text) => { const shown = served(text); return [shown.lang ?? '', shown.textContent ?? shown]; });
}"""
# Their details describe a single request and help only the operator.
FOR_OPERATORS = {
    "malformed_request", "malformed_multipart", "missing_file", "unauthorized", "cross_site", "not_found", "unknown_model",
    "invalid_parameter", "undecodable", "not_acceptable",
}  # fmt: skip


def sentences() -> list[str]:
    """Sentences of the trainer and the shipped models, and the refusals that a picture or a busy service can cause."""
    said = [INTENDED_USE, *_limitations(OWN, 224, 0.95), *_limitations(BINARY, 224, 0.9)]
    for file in sorted((ROOT / "models").glob("*/*/manifest.json")):
        manifest = json.loads(file.read_text("utf-8"))
        said += [manifest["intended_use"], *manifest["limitations"]]
    kinds = [kind for kind in problems.ProblemError.__subclasses__() if kind.example and kind.code not in FOR_OPERATORS]
    assert len(kinds) >= 10
    return said + [kind.example for kind in kinds]


def test_sentences_of_the_server_are_translated(page: Page) -> None:
    said = sentences()
    for language in TRANSLATIONS:
        shown = page.evaluate(SERVED, [language, said])
        assert [text for text, (marked, _) in zip(said, shown, strict=True) if marked] == []  # none is still in English
        for text, (_, words) in zip(said, shown, strict=True):
            assert words != text
            assert "{" not in words
            numbers = {number.replace(",", "") for number in re.findall(r"\d[\d,]*", text.replace("%", " 100"))}
            written = {re.sub(r"\D", "", number) for number in re.findall(r"\d[\d.,\s\u2009\u202f]*", words)}
            assert written <= numbers, (language, words)  # no number is invented
        assert page.evaluate(SERVED, [language, ["The flux is low."]]) == [["en", "The flux is low."]]
    assert page.evaluate(SERVED, ["en", said]) == [["en", text] for text in said]


def test_refusals_and_limits_are_read_in_german(new_page, service, plain) -> None:
    page = new_page(service.url + "?lang=de")

    def refuse(route: Route) -> None:
        body = {"status": 422, "code": "too_small", "detail": problems.TooSmall.example, "request_id": "r"}
        route.fulfill(status=422, json=body)

    page.route("**/api/predict**", refuse)
    page.set_input_files("#choose", {"name": "a.png", "mimeType": "image/png", "buffer": plain()})
    page.locator("#assess").click()
    detail = page.locator(".problem-detail")
    expect(detail).to_contain_text("Erhalten: 80 × 60 Pixel. Die kürzere Seite muss mindestens 100 haben.")
    expect(detail.locator("[lang=en]")).to_have_count(0)

    def describe(route: Route) -> None:
        answer = route.fetch()
        limits = [*_limitations(OWN, 224, 0.95), "Only for the left hand."]
        route.fulfill(response=answer, json=answer.json() | {"intended_use": INTENDED_USE, "limitations": limits})

    page.route("**/api/models/melanoma", describe)
    page.evaluate("() => { location.hash = 'model'; }")
    expect(page.get_by_text("Es ist kein Medizinprodukt und stellt keine Diagnose.")).to_be_visible()
    limits = page.locator(".warnings li")
    expect(limits.nth(1)).to_contain_text("von 100 bösartigen Hautveränderungen 95 gefunden")
    expect(limits.last.locator("[lang=en]")).to_have_text("Only for the left hand.")

"""An Assessment as a FHIR R4 DiagnosticReport: validated with HL7's schema and with rules that no schema expresses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fhir import fhir_validator

from aiderm_client import Assessment, Decision, diagnostic_report
from aiderm_client.fhir import CODE_SYSTEM
from aiderm_client.response_models import Measure

HERE = Path(__file__).parent
WHEN = datetime(2026, 3, 1, 9, 30, tzinfo=timezone(timedelta(hours=1)))
DOCUMENT = json.loads((HERE.parents[1] / "clients" / "openapi.json").read_text("utf-8"))
EXAMPLES = DOCUMENT["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]


@pytest.fixture(scope="module")
def problems() -> Callable[[dict[str, Any]], list[str]]:
    """A function that returns the errors that HL7's schema finds in a DiagnosticReport."""
    return fhir_validator()


def assessment(name: str, **changes: Any) -> Assessment:
    return Assessment.model_validate(EXAMPLES[name]["value"] | changes)


def observations(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in report["contained"] if item["resourceType"] == "Observation"}


def components(observation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["code"]["coding"][0]["code"]: item for item in observation["component"]}


def codes(concept: dict[str, Any]) -> list[str]:
    return [coding["code"] for coding in concept["coding"]]


def every(node: Any) -> Any:
    """Yields each (key, value) of a resource, at every depth."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield key, value
        yield from every(value)


def check(report: dict[str, Any]) -> None:
    """Asserts the R4 invariants that apply to such a report: dom-2, dom-3, dom-4, ref-1, obs-6, obs-7, and required bindings."""
    ids = [item["id"] for item in report["contained"]]
    references = [value for key, value in every(report) if key == "reference"]
    local = {value.removeprefix("#") for value in references if value.startswith("#")}
    assert local == set(ids)
    assert len(set(ids)) == len(ids)
    for item in report["contained"]:
        assert "contained" not in item
        assert "meta" not in item
    statuses = {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"}
    for item in observations(report).values():
        assert item["status"] in statuses
        assert not ("dataAbsentReason" in item and any(key.startswith("value") for key in item))
        assert codes(item["code"])[0] not in components(item) if "component" in item else True
    assert all(value not in ("", [], {}, None) for _, value in every(report))


class Xhtml(HTMLParser):
    """The tags and the text of a narrative."""

    def __init__(self, div: str) -> None:
        super().__init__()
        self.tags, self.data = [], ""
        self.feed(div)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.data += data


@pytest.mark.parametrize("name", list(Decision))
@pytest.mark.parametrize("subject", [None, "Patient/123", {"identifier": {"value": "123"}, "display": "A patient"}])
def test_every_decision_is_a_valid_report(problems, name, subject):
    report = diagnostic_report(assessment(name), subject=subject, effective=WHEN, issued=WHEN)
    report = json.loads(json.dumps(report, allow_nan=False))
    assert problems(report) == []
    check(report)
    assert (report["resourceType"], report["status"]) == ("DiagnosticReport", "preliminary")
    assert codes(report["conclusionCode"][0]) == [name.value]
    assert report["conclusion"].endswith("Research use only; not a medical device; not a diagnosis.")
    assert [reference["reference"] for reference in report["result"]] == [f"#{key}" for key in observations(report)]
    expected = {"reference": subject} if isinstance(subject, str) else subject
    assert {str(item.get("subject")) for item in (report, *observations(report).values())} == {str(expected)}
    assert report["effectiveDateTime"] == report["issued"] == "2026-03-01T09:30:00.000+01:00"


def test_the_schema_does_find_errors(problems):
    report = diagnostic_report(assessment("suspicious"))
    assert problems(report | {"colour": "red"})
    assert problems(report | {"code": "text"})
    broken = json.loads(json.dumps(report))
    broken["contained"][1]["valueQuantity"]["value"] = "much"
    assert any("Observation" in error for error in problems(broken))
    del broken["contained"][1]["code"]
    assert any("code" in error for error in problems(broken))


def test_the_numbers_of_an_assessment():
    source = assessment("suspicious")
    found = observations(diagnostic_report(source))
    assert list(found) == ["malignancy", "classes", "novelty", "quality", "lesion"]
    malignancy = found["malignancy"]
    assert malignancy["valueQuantity"] == {"value": 0.62, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
    beside = components(malignancy)
    assert beside["threshold"]["valueQuantity"]["value"] == source.malignancy.threshold
    assert beside["prevalence"]["valueQuantity"]["value"] == source.malignancy.prevalence
    assert [beside["uncertain"]["valueRange"][end]["value"] for end in ("low", "high")] == list(source.malignancy.uncertain)
    classes = components(found["classes"])
    assert {key: item["valueQuantity"]["value"] for key, item in classes.items()} == {"mel": 0.62, "nv": 0.38}
    assert classes["mel"]["code"]["text"] == "Melanoma (malignant)"
    assert found["novelty"]["valueQuantity"]["value"] == source.novelty.score
    assert components(found["novelty"])["novelty_limit"]["valueQuantity"]["value"] == source.novelty.limit
    measures = {key: item["valueQuantity"]["value"] for key, item in components(found["quality"]).items()}
    assert measures == source.quality.model_dump(exclude={"warnings"})
    assert found["quality"]["valueString"] == "No warnings."
    inside = components(found["lesion"])
    assert inside["area"]["valueQuantity"]["value"] == source.lesion.area.value
    assert inside["border_bounds"]["valueRange"]["high"]["value"] == source.lesion.border.high
    assert "diameter_mm" not in inside
    assert inside["dark_brown"]["valueQuantity"]["value"] == source.lesion.colours[0].share
    assert found["lesion"]["valueString"] == "Colours: dark brown, light brown."


def test_millimetres_have_their_units(problems):
    source = assessment("suspicious")
    millimetres = {"diameter_mm": Measure(value=6.2, low=5.1, high=7.4), "area_mm2": None}
    report = diagnostic_report(source.model_copy(update={"lesion": source.lesion.model_copy(update=millimetres)}))
    assert problems(report) == []
    inside = components(observations(report)["lesion"])
    quantity = {"value": 6.2, "unit": "mm", "system": "http://unitsofmeasure.org", "code": "mm"}
    assert inside["diameter_mm"]["valueQuantity"] == quantity
    assert inside["diameter_mm_span"]["valueRange"]["high"] == quantity | {"value": 7.4}
    assert "area_mm2" not in inside


@pytest.mark.parametrize(("name", "flags"), [("suspicious", ["A"]), ("uncertain", ["IND"]), ("low_suspicion", [])])
def test_the_interpretation_is_the_decision_and_never_normal(name, flags):
    report = diagnostic_report(assessment(name))
    [interpretation] = observations(report)["malignancy"]["interpretation"]
    assert codes(interpretation) == [name, *flags]
    assert interpretation["coding"][0]["system"] == CODE_SYSTEM
    assert ("not the same as benign" in report["conclusion"]) == (name == "low_suspicion")


def test_a_rejected_picture_has_no_number_at_all():
    blurred = {"code": "sharpness", "text": "The picture is blurred.", "advisory": False}
    source = assessment("rejected", quality={**EXAMPLES["rejected"]["value"]["quality"], "warnings": [blurred]})
    report = diagnostic_report(source)
    assert not [value for _, value in every(report) if isinstance(value, int | float)]
    assert not re.search(r"\d", report["conclusion"] + report["text"]["div"].replace("http://www.w3.org/1999/xhtml", ""))
    found = observations(report)
    assert list(found) == ["malignancy", "novelty", "quality"]
    assert codes(found["malignancy"]["dataAbsentReason"]) == ["not-performed"]
    assert found["malignancy"]["status"] == "cancelled"
    assert "interpretation" not in found["malignancy"]
    assert found["malignancy"]["note"] == [{"text": source.reasons[0].text}]
    assert found["novelty"]["valueString"] == "Beyond the limit."
    assert found["quality"]["note"] == [{"text": "The picture is blurred."}]
    assert report["conclusion"].startswith("Not assessed. The picture does not resemble")


def test_the_model_and_the_request_can_be_found():
    source = assessment("suspicious")
    report = diagnostic_report(source)
    [device] = [item for item in report["contained"] if item["resourceType"] == "Device"]
    assert device["deviceName"][0]["name"].endswith("melanoma")
    assert device["version"] == [{"value": "2"}]
    assert report["identifier"][0]["value"] == source.request_id
    assert {item["device"]["reference"] for item in observations(report).values()} == {f"#{device['id']}"}


def test_times_need_a_zone_that_fhir_knows(problems):
    for name in ("effective", "issued"):
        with pytest.raises(ValueError, match=f"{name} needs a time zone"):
            diagnostic_report(assessment("suspicious"), **{name: datetime(2026, 3, 1)})
    old = datetime(1890, 1, 1, tzinfo=timezone(timedelta(minutes=53, seconds=28)))
    report = diagnostic_report(assessment("suspicious"), effective=old, issued=datetime(2026, 3, 1, tzinfo=UTC))
    assert problems(report) == []
    assert datetime.fromisoformat(report["effectiveDateTime"]) == old


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(texts, st.floats(0, 1), st.floats(0, 1e6))
def test_any_text_and_number_make_a_valid_report(problems, text, probability, score):
    value = EXAMPLES["uncertain"]["value"]
    source = assessment(
        "uncertain",
        reasons=[{"code": "band", "text": text}],
        malignancy=value["malignancy"] | {"probability": probability},
        classes=[{"id": "mel", "name": text, "malignant": True, "probability": probability}],
        novelty={"score": score, "limit": 1.0},
    )
    report = json.loads(json.dumps(diagnostic_report(source), allow_nan=False))
    assert problems(report) == []
    check(report)
    assert observations(report)["malignancy"]["valueQuantity"]["value"] == probability
    narrative = Xhtml(report["text"]["div"])
    assert set(narrative.tags) == {"div", "p"}  # text is never interpreted as markup
    assert text in narrative.data


def test_an_answer_of_the_running_service(service, pictures, problems):
    from aiderm_client import Client

    with Client(service) as client:
        for path in pictures.values():
            report = diagnostic_report(client.predict(path, explain=True), subject="Patient/1", issued=WHEN)
            assert problems(json.loads(json.dumps(report))) == []
            check(report)

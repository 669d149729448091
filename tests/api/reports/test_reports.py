"""An assessment as FHIR and as DICOM: valid, with the assessment's numbers, and with references to its image."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests import dicom_files as files
from tests.dicom_tools import dciodvfy, needs_dciodvfy
from tests.fhir import fhir_validator

from aiderm_api.errors.problems import NotAcceptable
from aiderm_api.reports.dicom import secondary_capture, segmentation, structured_report, written
from aiderm_api.reports.fhir_bundle import fhir_bundle
from aiderm_api.reports.source import source_of
from aiderm_api.schemas import Assessment, MeasureOut
from aiderm_api.serving.answers import heatmap_uri

DOCUMENT = json.loads((Path(__file__).parents[3] / "clients" / "openapi.json").read_text("utf-8"))
EXAMPLES = DOCUMENT["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]
PIXELS = files.sample(200, 150)
FILE = files.kinds(PIXELS)["explicit"]
PARTS = 'multipart/related; type="application/dicom"'


def answer(name: str) -> Assessment:
    found = Assessment.model_validate(EXAMPLES[name]["value"])
    if name != "rejected":
        found.heatmap = heatmap_uri(np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7), 64)
    if found.lesion:  # as if the file stated its pixel spacing
        found.lesion.diameter_mm = MeasureOut(value=6.2, low=5.1, high=7.4)
        found.lesion.area_mm2 = MeasureOut(value=21.5, low=15.0, high=30.1)
    return found


def source(data: bytes = FILE):
    found = source_of(data)
    assert found is not None
    return found


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def items(dataset):
    """Yields each content item of a structured report, at every depth."""
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def numbers(report) -> list[tuple[str, float]]:
    return [
        (item.ConceptNameCodeSequence[0].CodeValue, float(item.MeasuredValueSequence[0].NumericValue))
        for item in items(report)
        if item.ValueType == "NUM"
    ]


@needs_dciodvfy
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_object_keeps_to_its_definition(name, tmp_path):
    found, image = answer(name), source()
    assert dciodvfy(FILE, tmp_path) == []
    images = [secondary_capture(found, image)] if found.heatmap else []
    images += [segmentation(found, image)] if found.lesion else []
    assert dciodvfy(written(structured_report(found, image, images)), tmp_path) == []
    for each in images:
        assert dciodvfy(written(each), tmp_path) == []
        assert dciodvfy(FILE[:-200], tmp_path) != []  # the validator does find errors


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_structured_report_says_what_the_answer_says(name):
    found = answer(name)
    report = read(written(structured_report(found, source())))
    assert {keyword: str(report[keyword].value) for keyword in files.SECRETS} == files.SECRETS
    assert report.StudyInstanceUID == "1.2.826.0.1.1.1"
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    [image] = [item for item in items(report) if item.ValueType == "IMAGE"]
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.826.0.1.1.3"
    [decision] = [
        item for item in items(report) if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue == "decision"
    ]
    assert decision.ConceptCodeSequence[0].CodeValue == name
    [comment] = [
        item.TextValue
        for item in items(report)
        if item.get("TextValue") and item.ConceptNameCodeSequence[0].CodeValue == "121106"
    ]
    assert comment.endswith("Research use only; not a medical device; not a diagnosis.")
    measured = numbers(report)
    if name == "rejected":
        assert measured == []
        assert not re.search(r"\d", comment)
        return
    malignancy = found.malignancy
    expected = {"malignancy": malignancy.probability, "threshold": malignancy.threshold, "prevalence": malignancy.prevalence}
    assert {key: value for key, value in measured if key in expected} == pytest.approx(expected)
    assert [value for key, value in measured if key == "uncertain"] == pytest.approx(list(malignancy.uncertain))
    units = {
        item.ConceptNameCodeSequence[0].CodeValue: item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
        for item in items(report)
        if item.ValueType == "NUM"
    }
    if found.lesion:
        assert [value for key, value in measured if key == "diameter_mm"] == [6.2]
        assert [value for key, value in measured if key == "area_mm2_span"] == [15.0, 30.1]
        named = [(units[key].CodeValue, units[key].CodingSchemeDesignator) for key in ("diameter_mm", "area_mm2", "area")]
        assert named == [("mm", "UCUM"), ("mm2", "UCUM"), ("1", "UCUM")]
    # every number in the text is one of the measurements
    said = {float(text) for text in re.findall(r"\d+\.\d+", comment)}
    known = [value for _, value in measured]
    assert said
    assert all(any(text == pytest.approx(value, rel=0.01, abs=0.005) for value in known) for text in said)


def test_the_same_image_and_model_have_the_same_uids():
    first, second, other = (structured_report(answer("suspicious"), source(data)) for data in (FILE, FILE, other_file()))
    assert first.SOPInstanceUID == second.SOPInstanceUID != other.SOPInstanceUID


def other_file() -> bytes:
    return files.photograph(PIXELS.tobytes(), 200, 150, name=7)


def test_the_secondary_capture_shows_the_heatmap():
    capture = read(written(secondary_capture(answer("suspicious"), source())))
    assert capture.pixel_array.shape == (64, 64, 3)
    assert capture.pixel_array[0, 0].max() < capture.pixel_array[-1, -1].max()
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.826.0.1.1.3"
    assert "Research use only" in capture.DerivationDescription


def test_the_segmentation_covers_the_inside_of_the_outline():
    found = answer("suspicious")
    segment = read(written(segmentation(found, source())))
    assert segment.pixel_array.shape == (found.image.height, found.image.width)
    expected = found.lesion.area.value * found.region.width * found.region.height
    assert segment.pixel_array.sum() == pytest.approx(expected, rel=0.3)  # the example's outline is rough
    assert (segment.pixel_array[0, 0], segment.pixel_array[200, 300]) == (0, 1)
    assert {keyword: str(segment[keyword].value) for keyword in files.SECRETS} == files.SECRETS


@pytest.fixture(scope="module")
def problems():
    return fhir_validator()


@pytest.mark.parametrize("data", [FILE, None])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_bundle_is_valid_and_marked_as_written_by_a_model(problems, name, data):
    bundle = json.loads(json.dumps(fhir_bundle(answer(name), source(data) if data else None)))
    assert problems(bundle) == []
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    expected = {"DiagnosticReport", "Observation", "Device", "Provenance"} | ({"ImagingStudy"} if data else set())
    assert set(kinds) == expected
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(urls) == len(kinds)
    assert set(re.findall(r'"reference": "([^"]*)"', json.dumps(bundle))) <= urls
    for entry in bundle["entry"]:
        written_by_model = entry["resource"]["resourceType"] in {"DiagnosticReport", "Observation", "Provenance"}
        assert ("AIAST" in json.dumps(entry["resource"].get("meta", ""))) == written_by_model
    assert ("PID-7741-XQ" in json.dumps(bundle)) == (data is not None)
    assert "Zwetschkenbaum" not in json.dumps(bundle)


def test_broken_values_of_the_source_are_left_out():
    broken = files.photograph(PIXELS.tobytes(), 200, 150).replace(b"19470813", b"1947.8.1").replace(b"20260301", b"2026-3-1")
    found = source(broken)
    assert (found.PatientBirthDate, found.StudyDate) == ("", "")
    assert read(written(structured_report(answer("suspicious"), found))).PatientBirthDate == ""
    with pytest.raises(NotAcceptable, match=r"tag \(0020,000D\)"):
        source_of(files.photograph(PIXELS.tobytes(), 200, 150, StudyInstanceUID="no uid"))


def test_names_in_other_alphabets_arrive():
    data = files.photograph(PIXELS.tobytes(), 200, 150, SpecificCharacterSet="ISO_IR 144", PatientName="Люкceмбypг")
    assert read(written(structured_report(answer("suspicious"), source(data)))).PatientName == "Люкceмбypг^"


PLAIN = files.photograph(bytes([200, 100, 10]) * 200 * 150, 200, 150)  # the tests' models do not reject this colour


def post(client, accept, data=PLAIN, **query):
    return client.post("/predict", params=query, files={"file": ("a.dcm", data)}, headers={"Accept": accept})


def parts_of(response) -> list[bytes]:
    """The objects of a multipart answer."""
    kind, _, boundary = response.headers["content-type"].partition("; boundary=")
    assert kind == PARTS
    first, *parts, last = response.content.split(f"--{boundary}".encode())
    assert (first, last) == (b"", b"--\r\n")
    return [part.removeprefix(b"\r\nContent-Type: application/dicom\r\n\r\n").removesuffix(b"\r\n") for part in parts]


def test_the_header_accept_asks_for_a_form(client, problems, capfd):
    report = post(client, "application/dicom")
    assert report.headers["content-type"] == "application/dicom"
    assert read(report.content).Modality == "SR"
    both = post(client, PARTS, explain="true")
    assert [read(part).Modality for part in parts_of(both)] == ["SR", "OT"]
    bundle = post(client, "application/fhir+json, application/json;q=0.5")
    assert bundle.headers["content-type"] == "application/fhir+json"
    assert problems(bundle.json()) == []
    for accept in ("*/*", "text/html", "application/dicom;q=0.2, application/json;q=0.9"):
        assert post(client, accept).headers["content-type"] == "application/json"
    logged = "".join(capfd.readouterr())
    assert "/predict" in logged
    assert not [secret for value in files.SECRETS.values() for secret in value.split("^") if secret in logged]


def test_what_cannot_be_written_is_refused_by_name(client, monkeypatch):
    buffer = io.BytesIO()
    from PIL import Image

    Image.fromarray(PIXELS).save(buffer, "PNG")
    refused = post(client, "application/dicom", buffer.getvalue())
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")
    monkeypatch.setattr("aiderm_api.routes.representations.find_spec", lambda name: None)
    missing = post(client, PARTS)
    assert missing.status_code == 406
    assert "highdicom" in missing.json()["detail"]
    assert post(client, "application/fhir+json").status_code == 200

"""DICOM photographs over HTTP."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from tests import dicom_files as files

PIXELS = files.sample(200, 150)
KINDS = files.kinds(PIXELS)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def send(client, data, name="IM0001.dcm", **options):
    return client.post("/predict", files={"file": (name, data, "application/dicom")}, **options)


@pytest.fixture(scope="module")
def plain(client):
    return send(client, png(PIXELS), "a.png").json()


@pytest.mark.parametrize("name", ["explicit", "big-endian", "planes", "jpeg 2000 rct", "rle"])
def test_the_same_image_has_the_same_answer(client, plain, name):
    answer = send(client, KINDS[name])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["image"] == plain["image"] | {"format": "dicom", "pixel_spacing_mm": [0.025, 0.025]}
    same = ("decision", "reasons", "malignancy", "classes", "novelty", "quality", "region")
    assert {key: body[key] for key in same} == {key: plain[key] for key in same}


def test_a_jpeg_has_the_answer_that_it_has_outside(client):
    stream = files.jpeg(PIXELS)
    outside, inside = (send(client, data).json() for data in (stream, files.jpegs(PIXELS)["jpeg"]))
    assert inside["malignancy"] == outside["malignancy"]
    assert outside["image"]["pixel_spacing_mm"] is None


def test_no_log_holds_anything_of_the_patient(client, capfd):
    ways = [KINDS["explicit"], KINDS["rle"], KINDS["explicit"][:-800], files.photograph(b"", 200, 150, colours="MONOCHROME2")]
    answers = [send(client, data, "Zwetschkenbaum.dcm") for data in ways]
    batch = client.post("/predict/batch", files=[("files", ("a.dcm", data)) for data in ways])
    assert [answer.status_code for answer in answers] == [200, 200, 422, 422]
    said = "".join(answer.text for answer in (*answers, batch)) + "".join(capfd.readouterr())
    assert len(said) > 1000
    assert not [secret for value in files.SECRETS.values() for secret in value.split("^") if secret in said]


def test_a_monochrome_image_is_refused_by_name(client):
    answer = send(client, files.photograph(PIXELS[..., 0].tobytes(), 200, 150, colours="MONOCHROME2"))
    assert answer.status_code == 422
    assert "monochrome (tag (0028,0004)); allowed: colour photographs" in answer.json()["detail"]

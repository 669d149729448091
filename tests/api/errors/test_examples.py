"""The problem examples in the OpenAPI document are texts that the service really returns: each one is provoked here."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from aiderm_api.auth.keys import changing, new_key
from aiderm_api.errors import problems
from aiderm_api.errors.problems import ProblemError
from aiderm_api.middleware.request_checks import RequestChecks
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore, seal
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError

TYPE = {"Content-Type": "multipart/form-data; boundary=frontier"}


def detail(answer, kind: type[ProblemError]) -> str:
    body = answer.json()
    assert (body["status"], body["code"]) == (kind.status, kind.code)
    return body["detail"]


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    return caught.value.detail


def test_requests(client, forms):
    png = {"file": forms.png_of(9)}
    path = RequestChecks(["*"]).refusal({"path": "/predict\n", "headers": []})
    assert path is not None
    assert path.detail == problems.MalformedRequest.example
    assert detail(client.post("/predict%0a"), problems.MalformedRequest) == problems.MalformedRequest.example
    answer = client.post("/predict", headers={"Content-Type": "multipart/form-data"}, content=b"x")
    assert detail(answer, problems.MalformedMultipart) == problems.MalformedMultipart.example
    answer = client.post("/predict", content=b"--frontier--\r\n", headers=TYPE)
    assert detail(answer, problems.MissingFile) == problems.MissingFile.example
    answer = client.post("/predict", files=png, headers={"Origin": "https://other.example"})
    assert detail(answer, problems.CrossSite) == problems.CrossSite.example
    answer = client.post("/predict?explain=perhaps", files=png)
    assert detail(answer, problems.InvalidParameter) == problems.InvalidParameter.example
    answer = client.post("/predict", files=png, headers={"Accept": "application/dicom"})
    assert detail(answer, problems.NotAcceptable) == problems.NotAcceptable.example
    answer = client.post("/predict", files={"file": bytes(20_000_001)})
    assert detail(answer, problems.TooLarge) == problems.TooLarge.example


def test_images(forms):
    assert refused(b"%PDF-1.7\n1 0 obj\n") == problems.UnsupportedType.example
    assert refused(b"") == problems.EmptyFile.example
    assert refused(forms.encoded(forms.plain(1, 2, 3, 80, 60), "PNG")) == problems.TooSmall.example
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    jpeg = bytes(cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    assert refused(jpeg[:12_000]) == problems.Truncated.example
    floats = bytes(cv2.imencode(".tiff", np.zeros((120, 120), np.float32))[1])
    assert refused(floats) == problems.Undecodable.example


def test_an_image_with_too_many_pixels(pictures):
    assert refused(pictures["bomb"]) == problems.TooManyPixels.example


def test_models(serve, tmp_path, make_bundle, forms):
    bundle = make_bundle(tmp_path)
    shutil.rmtree(bundle / "report")
    seal(bundle, Manifest.load(bundle))
    bundle.with_name("1.sha256").unlink()
    ModelStore(tmp_path).pin("melanoma", "1")
    client = serve(models_dir=tmp_path).client
    assert detail(client.get("/models/melanoma/report"), problems.NotFound) == problems.NotFound.example
    assert detail(client.get("/models/moles"), problems.UnknownModel) == problems.UnknownModel.example
    empty = serve(models_dir=tmp_path / "empty").client
    assert detail(empty.get("/health/ready"), problems.NoModel) == problems.NoModel.example


def test_keys(serve, tmp_path, forms):
    file = tmp_path / "keys.json"
    key, secret = new_key("clinic")
    with changing(file) as keys:
        keys.append(key)
    client = serve(keys_file=file).client
    assert detail(client.get("/models"), problems.Unauthorized) == problems.Unauthorized.example
    answers = [
        client.post("/predict/batch", files=[("files", b"x")] * 16, headers={"Authorization": f"Bearer {secret}"})
        for _ in range(3)
    ]
    assert detail(answers[-1], problems.RateLimited) == problems.RateLimited.example


def test_load(serve, forms):
    running = serve(workers=1)
    pool = running.services.pool

    async def fill() -> None:
        await asyncio.gather(*(pool.run(lambda _: None) for _ in range(pool.queue_size)))

    with running.blocked() as gate:
        waiting = threading.Thread(target=lambda: asyncio.run(fill()))
        waiting.start()
        forms.wait_until(lambda: pool.depth == pool.queue_size)
        full = running.client.post("/predict", files={"file": forms.png_of(9)})
        assert detail(full, problems.Overloaded) == problems.Overloaded.example
        gate.set()
        waiting.join()
    late = re.sub("0.2 s", "15 s", detail(deadline(serve, forms), problems.DeadlineExceeded))
    assert late == problems.DeadlineExceeded.example


def deadline(serve, forms):
    running = serve(workers=1, deadline_seconds=0.2)
    with running.blocked():
        return running.client.post("/predict", files={"file": forms.png_of(9)})


def test_every_example_is_provoked_above():
    """A new problem with an example needs a test here; InternalError's text is fixed."""
    source = Path(__file__).read_text("utf-8")
    for kind in vars(problems).values():
        if isinstance(kind, type) and issubclass(kind, ProblemError) and kind.example and kind is not problems.InternalError:
            assert f"problems.{kind.__name__}.example" in source, kind

"""Every way to assess an image gives the same probability, for synthetic lesions and the shipped model."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import httpx
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
import tritonclient.http as triton
from deploy.wheel import build
from PIL import Image, ImageOps
from tests.servers import Server, free_port, run_server

import aiderm
from aiderm.__main__ import main
from aiderm_client import Client
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.runtime import load_runtime

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
SAMPLES = ROOT / "frontend" / "public" / "img" / "samples"
NAME = "melanoma"
SAME = 1e-4
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Synthetic lesions: a PNG, a wide JPEG, and a JPEG with an Exif tag that says that it is turned on its side."""
    folder = tmp_path_factory.mktemp("lesions")
    low, suspicious, uncertain = (Image.open(SAMPLES / f"{name}.jpg") for name in ("low", "suspicious", "uncertain"))
    on_its_side = Image.Exif()
    on_its_side[274] = 6
    low.save(folder / "a.png")
    ImageOps.pad(suspicious, (640, 480), color=suspicious.getpixel((0, 0))).save(folder / "b.jpg", quality=95)
    ImageOps.pad(uncertain, (480, 640), color=uncertain.getpixel((0, 0))).save(folder / "c.jpg", quality=95, exif=on_its_side)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "aiderm", "serve", "--port", port, "--models", MODELS]
    with run_server(command, port, "/health/ready", tmp_path_factory.mktemp("service") / "log") as running:
        yield running


def upload(files: list[Path], field: str) -> list[tuple[str, bytes]]:
    return [(field, path.read_bytes()) for path in files]


def predict(service: Server, files: list[Path]) -> list[float]:
    answers = [httpx.post(f"{service.url}/predict", files=upload([path], "file"), timeout=60, trust_env=False) for path in files]
    return [answer.json()["malignancy"]["probability"] for answer in answers]


def predict_batch(service: Server, files: list[Path]) -> list[float]:
    answer = httpx.post(f"{service.url}/predict/batch", files=upload(files, "files"), timeout=60, trust_env=False)
    return [item["assessment"]["malignancy"]["probability"] for item in answer.json()["results"]]


def predict_lesion(service: Server, files: list[Path]) -> list[float]:
    answer = httpx.post(f"{service.url}/predict/lesion", files=upload(files, "files"), timeout=60, trust_env=False)
    return [item["assessment"]["malignancy"]["probability"] for item in answer.json()["images"]]


def python_client(service: Server, files: list[Path]) -> list[float]:
    with Client(service.url) as client:
        return [client.predict(path).malignancy.probability for path in files]


def open_inference_json(service: Server, files: list[Path]) -> list[float]:
    data = [base64.b64encode(path.read_bytes()).decode() for path in files]
    body = {"inputs": [{"name": "file", "datatype": "BYTES", "shape": [len(files)], "data": data}]}
    outputs = httpx.post(service.url + INFER, json=body, timeout=60, trust_env=False).json()["outputs"]
    return next(item["data"] for item in outputs if item["name"] == "malignancy")


def triton_files(service: Server, files: list[Path]) -> list[float]:
    tensor = triton.InferInput("file", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array([path.read_bytes() for path in files], np.object_))
    return ask_triton(service, tensor)


def triton_tensors(service: Server, files: list[Path]) -> list[float]:
    tensor = triton.InferInput("image", [len(files), *batch_of(files).shape[1:]], "UINT8")
    tensor.set_data_from_numpy(batch_of(files), binary_data=False)
    return ask_triton(service, tensor)


def ask_triton(service: Server, tensor: triton.InferInput) -> list[float]:
    with triton.InferenceServerClient(service.url.removeprefix("http://")) as client:
        answer = client.infer(NAME, [tensor])
        described = {item["name"]: item["shape"] for item in client.get_model_metadata(NAME)["outputs"]}
        assert described.keys() >= {"probability", "malignancy", "heatmap", "novelty", "outline"}
        outline = answer.as_numpy("outline")
        assert outline.shape[0] == tensor.shape()[0]
        assert outline.max() > 0.5, "part of each image lies inside the lesion"
        return answer.as_numpy("malignancy").tolist()


def batch_of(files: list[Path]) -> np.ndarray:
    size = Manifest.load(aiderm.promoted(NAME, MODELS)).input.size
    return np.stack([to_model_input(decode_image(path.read_bytes()).pixels, size, "center_square") for path in files])


def python_import(_: Server, files: list[Path]) -> list[float]:
    model = aiderm.load(models=MODELS)
    return [model.assess(path).malignancy.probability for path in files]


def command_line(_: Server, files: list[Path]) -> list[float]:
    with redirect_stdout(io.StringIO()) as output:
        assert main(["assess", "--json", "--models", str(MODELS), *map(str, files)]) == 0
    return [json.loads(line)["malignancy"]["probability"] for line in output.getvalue().splitlines()]


def scorer(_: Server, files: list[Path]) -> list[float]:
    out = files[0].parent / "scores" / "table.parquet"
    run(ROOT, sys.executable, "-m", "aiderm_scorer.cli", files[0].parent, "--models", MODELS, "--out", out, "--jobs", 1)
    return [row["malignancy"] for row in sorted(pq.read_table(out).to_pylist(), key=lambda row: row["image"])]


def mlflow_pyfunc(_: Server, files: list[Path]) -> list[float]:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    out = files[0].parent.parent / f"{files[0].parent.name}-mlflow"
    assert main(["mlflow", str(out), "--models", str(MODELS)]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns about its own code
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(str(out))
        frame = model.predict(pandas.DataFrame({"image": [path.read_bytes() for path in files] + [b"no image"]}))
    assert frame["problem"].tolist()[-1].startswith("unsupported_type")
    assert json.loads(frame["assessment"][0])["decision"] == frame["decision"][0]
    return frame["malignancy"].tolist()[:-1]


def tensorflow(_: Server, files: list[Path]) -> list[float]:
    return load_runtime("tensorflow", aiderm.promoted(NAME, MODELS)).run(batch_of(files)).malignancy.tolist()


def wheel(_: Server, files: list[Path]) -> list[float]:
    """The wheel: its build is reproducible, and it is installed into an empty environment from the package index."""
    folder = files[0].parent.parent / f"{files[0].parent.name}-wheel"
    built = [build(folder / name) for name in ("one", "two")]
    assert built[0].read_bytes() == built[1].read_bytes()
    assert built[0].stat().st_size <= 25e6
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=120)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", built[0]]
    subprocess.run(pip, check=True, timeout=300)
    said = run(folder, python.parent / "aiderm", "assess", *files)
    assert all(text in said for text in ("low suspicion (melanoma", "probability of malignancy", aiderm.DISCLAIMER))
    port = free_port()
    with run_server([python.parent / "aiderm", "serve", "--port", port], port, "/health/ready", folder / "log") as installed:
        assert "<html" in httpx.get(installed.url, trust_env=False).text
        assert predict(installed, files) == predict_batch(installed, files)
    script = "import aiderm, sys; print(*(aiderm.load().assess(file).malignancy.probability for file in sys.argv[1:]))"
    return [float(text) for text in run(folder, python, "-c", script, *files).split()]


def run(folder: Path, *command: object) -> str:
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120, cwd=folder).stdout


QUICK = (
    predict_batch,
    predict_lesion,
    python_client,
    open_inference_json,
    triton_files,
    triton_tensors,
    python_import,
    command_line,
)
LONG = (
    *(pytest.param(door, marks=pytest.mark.ci) for door in (scorer, mlflow_pyfunc, wheel)),
    pytest.param(tensorflow, marks=pytest.mark.soak),
)
DOORS = (*QUICK, *LONG)


@pytest.fixture(scope="module")
def expected(service: Server, files: list[Path]) -> list[float]:
    return predict(service, files)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_gives_the_same_probability(
    door: Callable[[Server, list[Path]], list[float]], service: Server, files: list[Path], expected: list[float]
) -> None:
    assert len(set(expected)) == len(files), "different images"
    assert door(service, files) == pytest.approx(expected, abs=SAME, rel=0)


def test_what_the_command_cannot_assess_has_a_reason_and_a_status(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n")
    given = ["--models", str(MODELS), str(tmp_path / "a.pdf"), str(tmp_path / "missing.jpg"), str(files[0])]
    assert main(["assess", *given]) == 1
    said = capsys.readouterr()
    assert "a.pdf: unsupported_type: Received a PDF document; allowed:" in said.err
    assert "missing.jpg: unreadable" in said.err
    assert "threshold 0." in said.out
    assert aiderm.DISCLAIMER in said.out
    for command in (["assess", str(files[0])], ["mlflow", str(tmp_path / "out")]):
        assert main([*command, "--models", str(tmp_path)]) == 2
    assert "no version of melanoma is promoted" in capsys.readouterr().err
    assert main(["mlflow", str(tmp_path), "--models", str(MODELS)]) == 2
    assert "File exists" in capsys.readouterr().err

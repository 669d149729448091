"""The main path with the shipped models behind the real nginx: the page shows their answers and names the model."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import pytest
from playwright.sync_api import Page, Response, expect
from tests.frontend.comparing import open_comparison
from tests.lesion_views import SAMPLES, SIDE, encoded, grown, photograph, view

from aiderm_trainer.data.synthetic import lesion

pytestmark = [pytest.mark.browser, pytest.mark.ci]
MODELS = Path(__file__).resolve().parents[2] / "models"
# The names have no digits, because the page must show none for an answer without numbers.
PICTURES = {"ash.jpg": "suspicious", "birch.jpg": "uncertain", "cedar.jpg": "other", "elm.jpg": "low"}
TITLES = {"suspicious": "Suspicious", "low_suspicion": "Low suspicion", "uncertain": "Uncertain", "rejected": "Not assessed"}


def version(name: str) -> str:
    return (MODELS / name / "SERVING").read_text("utf-8").strip()


def synthetic(seed: int) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(lesion(seed, malignant=True, size=400), cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


@pytest.fixture(scope="module")
def shipped(start_service, start_nginx, tmp_path_factory) -> Iterator[str]:
    """The page's address with the models that the repository ships."""
    folder = tmp_path_factory.mktemp("shipped")
    with (
        start_service(MODELS, folder / "api.log", AIDERM_FRONTEND_DIR="") as api,
        start_nginx(folder / "nginx", api.port) as front,
    ):
        yield front.url


def shows(page: Page, answer: dict) -> None:
    """Asserts that the page shows the API's answer."""
    verdict = page.locator(".verdict")
    expect(verdict).to_have_attribute("data-decision", answer["decision"])
    expect(verdict.get_by_role("heading", level=2)).to_contain_text(TITLES[answer["decision"]])
    expect(verdict.locator(".whatever")).to_contain_text("see a doctor whatever this says")
    if answer["decision"] == "rejected":
        assert not re.search(r"\d", page.locator("#outcome").inner_text() + page.locator("derm-findings").inner_text())
        return
    expect(verdict).to_contain_text(f"Model: {answer['model']['name']}, version {answer['model']['version']}")
    malignancy = answer["malignancy"]
    label = verdict.locator("derm-scale .here").inner_text()
    assert float(re.search(r"[\d.]+", label)[0]) / 100 == pytest.approx(malignancy["probability"], abs=0.0051)
    expect(page.locator(".classes li")).to_have_count(len(answer["classes"]))
    expect(page.locator("derm-heatmap .heat")).to_have_attribute("src", answer["heatmap"])


def test_several_pictures_from_choice_to_history(new_page, shipped: str, upload) -> None:
    page = new_page(shipped)
    expect(page.locator("derm-service")).to_contain_text(f"melanoma, version {version('melanoma')}")
    received: list[Response] = []
    page.on("response", lambda response: received.append(response) if "/predict" in response.url else None)
    page.set_input_files("#choose", [upload((SAMPLES / f"{kind}.jpg").read_bytes(), name) for name, kind in PICTURES.items()])
    page.get_by_role("button", name=f"Assess all {len(PICTURES)} pictures").click()
    expect(page.locator(".queue li[data-state=result]")).to_have_count(len(PICTURES))
    # Read here and not as each arrives: the page may show the last answer before this process has read its body.
    answers = [response.json() for response in received]
    assert len({answer["decision"] for answer in answers}) == 4
    for name, answer in zip(PICTURES, answers, strict=True):
        page.locator(".queue-choose").filter(has_text=name).click()
        shows(page, answer)
    suspicious = next(name for name, answer in zip(PICTURES, answers, strict=True) if answer["decision"] == "suspicious")
    page.locator(".queue-choose").filter(has_text=suspicious).click()
    page.locator("#edit").click()
    expect(page.locator("dialog[open] :focus")).to_be_visible()
    page.keyboard.press("-")
    page.get_by_role("button", name="Use this").click()
    with page.expect_response("**/api/predict*") as answered:
        page.get_by_role("button", name="Assess this picture").click()
    assert answered.value.json()["image"]["width"] < SIDE
    page.locator(".verdict").wait_for()
    shows(page, answered.value.json())
    page.get_by_role("button", name="Turn on the history").click()
    page.get_by_role("button", name="Keep this picture").click()
    page.get_by_role("link", name="Open the history").click()
    expect(page.locator(".dates img")).to_have_count(1)


def test_two_kept_pictures_are_compared(new_page, shipped: str) -> None:
    earlier = photograph("suspicious")
    dialog = open_comparison(new_page(shipped), *(encoded(pixels, ".png") for pixels in (earlier, view(grown(earlier, 1.2)))))
    dialog.get_by_role("button", name="Compare these two pictures").click()
    found = dialog.locator(".findings-of-change")
    expect(found.get_by_role("heading", name="The spot has changed")).to_be_focused()
    expect(found).to_contain_text("Show this spot to a doctor, whatever the comparison says.")  # it is suspicious on its own
    value, low, high = (int(share) for share in re.findall(r"(\d+)%", found.inner_text()))
    assert low < value < high
    assert value == pytest.approx(100 * (1.2**2 - 1), abs=6)
    expect(dialog.locator(".overlay[data-fitted] .outline")).to_have_count(2)
    assert dialog.locator(".overlay img.later").evaluate("image => image.decode().then(() => image.naturalWidth)") == 448


def test_the_drawn_pictures_show_every_kind_of_answer(shipped: str) -> None:
    """After another model is promoted, `python frontend/tools/choose_samples.py` chooses new samples."""
    answers = {}
    for file in sorted((MODELS.parent / "frontend" / "public" / "img" / "samples").glob("*.jpg")):
        answer = httpx.post(f"{shipped}/api/predict", files={"file": file.read_bytes()}, timeout=60).json()
        answers[file.stem] = (answer["decision"], frozenset(warning["code"] for warning in answer["quality"]["warnings"]))
    assert set(answers) == set(re.findall(r'data-sample="(\w+)"', httpx.get(shipped).text))
    assert answers["other"][0] == "rejected"
    assert {answers[kind] for kind in ("suspicious", "uncertain", "low")} == {
        (decision, frozenset()) for decision in ("suspicious", "uncertain", "low_suspicion")
    }
    assert answers["hair"][1] == {"hair"}
    assert answers["blurred"][1] == {"sharpness"}


def test_the_model_page_tells_of_the_model(new_page, shipped: str) -> None:
    page = new_page(f"{shipped}/#model")
    expect(page.get_by_role("heading", name=f"melanoma, version {version('melanoma')}")).to_be_visible()
    manifest = json.loads((MODELS / "melanoma" / version("melanoma") / "manifest.json").read_text("utf-8"))
    expect(page.get_by_role("row", name="Area under the ROC curve")).to_contain_text(
        f"{manifest['metrics']['test']['roc_auc']['value']:.3f}"
    )
    expect(page.locator("svg.chart")).to_have_count(5)


def test_what_the_developers_page_says_works(new_page, shipped: str, upload, tmp_path: Path) -> None:
    page = new_page(f"{shipped}/#integrate")
    expect(page.locator(".view")).to_contain_text("Models that answer now: melanoma.")
    (tmp_path / "lesion.jpg").write_bytes(synthetic(22))
    command, health = page.get_by_role("region", name="curl").inner_text().splitlines()
    answer = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert json.loads(answer.stdout)["decision"] in TITLES
    assert json.loads(subprocess.run(shlex.split(health), capture_output=True, timeout=60, check=True).stdout)["status"] == "ok"
    script = page.get_by_role("region", name="JavaScript").inner_text()
    chosen = "const console = { log() {} }, input = { files: [new Blob([new Uint8Array(bytes)])] };"
    answered = page.evaluate(f"async (bytes) => {{ {chosen}\n{script}\nreturn body; }}", list(synthetic(22)))
    assert answered["decision"] in TITLES
    element = page.locator("lesion-check")
    element.evaluate("element => element.setAttribute('model', 'melanoma')")
    page.set_input_files("lesion-check input[type=file]", upload(synthetic(22)))
    element.get_by_role("button", name="Assess this picture").click()
    expect(element.locator(".verdict")).to_contain_text(f"Model: melanoma, version {version('melanoma')}")
    documents = [page.request.get(f"{shipped}/{path}") for path in ("api/docs", "api/openapi.json")]
    assert [document.status for document in documents] == [200, 200]

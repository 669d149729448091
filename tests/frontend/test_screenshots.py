"""The page with a synthetic lesion, at a phone's and a desk's width; `AIDERM_SCREENSHOTS=1` keeps the pictures in docs/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import expect

from aiderm_trainer.data.synthetic import lesion

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
KEEP = os.environ.get("AIDERM_SCREENSHOTS") == "1"


@pytest.fixture(scope="module")
def shown(start_service, make_bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the page: before the shipped model for pictures that are kept, else before the steerable one."""
    folder = tmp_path_factory.mktemp("screenshots")
    models = ROOT / "models"
    if not KEEP:
        models = folder / "models"
        make_bundle(models, novelty={"limit": 3000.0, "false_rejection_rate": 0.01})
    with start_service(models, folder / "log") as service:
        yield service.url


def synthetic(seed: int, malignant: bool) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(lesion(seed, malignant, 640)[80:560], cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("phone", 360, "light"), ("desk", 1440, "light"), ("desk-dark", 1440, "dark")]
)
def test_screens(new_page, shown: str, assess, tmp_path: Path, name: str, width: int, scheme: str) -> None:
    folder = ROOT / "docs" / "screenshots" if KEEP else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    page = new_page(shown, width=width, height=900, color_scheme=scheme)
    expect(page.locator("derm-service")).to_contain_text("version")
    page.screenshot(path=folder / f"{name}-start.png", full_page=True)
    picture = synthetic(132, False)  # one that the shipped model does not take for a stranger
    (folder / "lesion.png").write_bytes(picture)
    assess(page, picture)
    expect(page.locator(".verdict")).to_be_visible()
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    page.evaluate("() => window.scrollTo(0, 0)")
    page.screenshot(path=folder / f"{name}-answer.png", full_page=True)
    for state in ("start", "answer"):
        screen = cv2.imread(str(folder / f"{name}-{state}.png"))
        assert screen.shape[1] == width  # nothing stands out at the side
        assert screen.std() > 10

"""Takes screenshots with a synthetic lesion at phone and desktop width; `AIDERM_SCREENSHOTS=1` saves them in docs/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]
ROOT = Path(__file__).resolve().parents[2]
KEEP = os.environ.get("AIDERM_SCREENSHOTS") == "1"


@pytest.fixture(scope="module")
def shown(start_service, make_bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address: with the shipped model if screenshots are saved, otherwise with the steerable one."""
    folder = tmp_path_factory.mktemp("screenshots")
    models = ROOT / "models"
    if not KEEP:
        models = folder / "models"
        make_bundle(models, novelty={"limit": 3000.0, "false_rejection_rate": 0.01})
    with start_service(models, folder / "log") as service:
        yield service.url


def sample(kind: str) -> bytes:
    """A synthetic lesion from the page's gallery."""
    return (ROOT / "frontend" / "public" / "img" / "samples" / f"{kind}.jpg").read_bytes()


def check(file: Path, width: int) -> None:
    screen = cv2.imread(str(file))
    assert screen.shape[1] == width  # nothing extends beyond the side
    assert screen.std() > 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for screenshots: docs/, or a temporary one."""
    chosen = ROOT / "docs" / "screenshots" if KEEP else tmp_path
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("phone", 360, "light"), ("desk", 1440, "light"), ("desk-dark", 1440, "dark")]
)
def test_screens(new_page, shown: str, assess, folder: Path, name: str, width: int, scheme: str) -> None:
    page = new_page(shown, width=width, height=900, color_scheme=scheme)
    expect(page.locator("derm-service")).to_contain_text("version")
    page.screenshot(path=folder / f"{name}-start.png", full_page=True)
    picture = sample("suspicious")
    # the picture in the README's examples
    cv2.imwrite(str(folder / "lesion.png"), cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR))
    assess(page, picture)
    expect(page.locator(".verdict")).to_be_visible()
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    page.evaluate("() => window.scrollTo(0, 0)")
    page.screenshot(path=folder / f"{name}-answer.png", full_page=True)
    for state in ("start", "answer"):
        check(folder / f"{name}-{state}.png", width)


def test_screens_of_the_other_views(new_page, shown: str, assess, upload, folder: Path) -> None:
    page = new_page(shown, width=1440, height=900)
    for kind in ("suspicious", "uncertain"):
        assess(page, sample(kind))
        expect(page.locator(".keep h2")).to_be_visible()
        if page.get_by_role("button", name="Turn on the history").is_visible():
            page.get_by_role("button", name="Turn on the history").click()
        if page.get_by_label("Which spot?").count():
            page.get_by_label("Which spot?").select_option(index=1)
        page.get_by_role("button", name="Keep this picture").click()
        expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()
    page.get_by_role("link", name="Open the history").click()
    page.get_by_role("button", name="Compare two dates").click()
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    page.screenshot(path=folder / "desk-compare.png")
    page.keyboard.press("Escape")
    for view in ("model", "integrate"):
        page.evaluate("view => { location.hash = view; }", view)
        expect(page.locator(f".view-{view} .card").first).to_be_visible()
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"desk-{view}.png", full_page=True)
        check(folder / f"desk-{view}.png", 1440)
    check(folder / "desk-compare.png", 1440)


def test_screens_of_taking_a_picture_in_and_of_arabic(new_page, shown: str, upload, folder: Path) -> None:
    page = new_page(shown, width=360, height=800)
    page.set_input_files("#choose", [upload(sample("suspicious"), "first.jpg"), upload(sample("low"), "second.jpg")])
    page.get_by_role("button", name="Crop or turn").click()
    page.get_by_role("slider", name="Size").fill("70")
    page.screenshot(path=folder / "phone-crop.png")
    page.keyboard.press("Escape")
    page.get_by_label("Language").select_option("ar")
    page.locator("#assess").click()
    expect(page.locator(".verdict")).to_be_visible()
    page.evaluate("() => window.scrollTo(0, 0)")
    page.screenshot(path=folder / "phone-arabic.png", full_page=True)
    for name in ("phone-crop", "phone-arabic"):
        check(folder / f"{name}.png", 360)

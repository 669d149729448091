"""The lesion's outline over the picture, its measurements for clinicians, and its correction by hand."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from aiderm_core.imaging.geometry import Region
from aiderm_core.outline import SIDE, measure_lesion, shape

pytestmark = pytest.mark.browser
REGION = {"x": 75, "y": 0, "width": 450, "height": 450}  # in a picture of 600 x 450
MEASURES = ("area", "diameter", "asymmetry", "border")
SHAPE = """async ([masks, lines]) => {
  const { maskOf, shapeOf } = await import(new URL('js/lesion/shape.js', location.href));
  const unpacked = masks.map((text) => Uint8Array.from(text, Number));
  return [...unpacked, ...lines.map(maskOf)].map(shapeOf);
}"""


ROWS = """async ([observed, corrected]) => {
  const at = (path) => import(new URL(`js/${path}.js`, location.href));
  const [{ useWords }, { lesionLead, lesionRows }, { measured }] =
    await Promise.all(['i18n', 'lesion/card', 'lesion/correction'].map(at));
  await useWords('answer');
  const rows = (outline) => lesionRows(observed, outline).slice(0, 2).flat();
  return { lead: lesionLead(observed), model: rows(null), hand: rows(corrected), measured: measured(observed, corrected) };
}"""


def masks() -> list[np.ndarray]:
    """A tilted ellipse, a spot with a notch, and a lobed spot that touches the edge of the square."""
    drawn = [np.zeros((SIDE, SIDE), np.uint8) for _ in range(3)]
    cv2.ellipse(drawn[0], (100, 120), (70, 35), 30, 0, 360, 1, cv2.FILLED)
    cv2.ellipse(drawn[1], (110, 110), (60, 50), 10, 0, 360, 1, cv2.FILLED)
    cv2.circle(drawn[1], (150, 80), 25, 0, cv2.FILLED)
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radii = 60 + 14 * np.sin(5 * angles) + 10 * np.cos(2 * angles)
    lobes = np.stack([50 + radii * np.cos(angles), 110 + radii * np.sin(angles)], axis=1)
    cv2.fillPoly(drawn[2], [lobes.round().astype(np.int32)], 1)
    return [mask > 0 for mask in drawn]


def lesion() -> dict:
    """The lesion in an answer: an ellipse around the middle of the region."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    line = np.stack([300 + 110 * np.cos(angles), 225 + 70 * np.sin(angles)], axis=1).round(1)
    values = {"area": 0.119, "diameter": 0.489, "asymmetry": 0.04, "border": 1.09}
    measures = {name: {"value": value, "low": value * 0.75, "high": value * 1.5} for name, value in values.items()}
    colours = [{"name": "dark_brown", "share": 0.62}, {"name": "light_brown", "share": 0.34}]
    return {"outline": line.tolist(), **measures, "colours": colours}


@pytest.fixture
def outlined(page: Page) -> Page:
    """The page with a model that outlines each lesion."""

    def answer(route: Route) -> None:
        found = route.fetch()
        route.fulfill(response=found, json=found.json() | {"lesion": lesion()})

    page.route("**/api/predict*", answer)
    return page


def place(locator: Locator) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element, in pixels of the picture."""
    page = locator.page
    region, box = page.locator(".region").bounding_box(), locator.bounding_box()
    assert region is not None
    assert box is not None
    scale = REGION["width"] / region["width"]
    left, top = (box["x"] - region["x"]) * scale + REGION["x"], (box["y"] - region["y"]) * scale
    return left, top, box["width"] * scale, box["height"] * scale


def test_shapes_are_measured_as_the_server_does(page: Page) -> None:
    drawn = masks()
    region = Region(0, 0, SIDE, SIDE)
    errors = dict.fromkeys(MEASURES, (1.0, 1.0))
    found = [measure_lesion(mask.astype(np.float32), np.zeros((SIDE, SIDE, 3), np.uint8), region, errors) for mask in drawn]
    lines = [(each.points / SIDE).tolist() for each in found if each]
    packed = ["".join(mask.astype(np.uint8).ravel().astype(str)) for mask in drawn]
    measured = page.evaluate(SHAPE, [packed, lines])
    assert len(measured) == 2 * len(drawn)
    expected = [shape(mask) for mask in drawn] * 2
    for at, (own, servers) in enumerate(zip(measured, expected, strict=True)):
        assert own == {name: pytest.approx(servers[name], rel=0.02, abs=0.005) for name in MEASURES}, at


def test_clinicians_see_outline_and_observations_and_lay_readers_no_number(outlined: Page, plain, assess) -> None:
    page = outlined
    assess(page, plain(red=230))
    switch, line, card = (
        page.get_by_role("checkbox", name="Show outline"),
        page.locator(".region .outline"),
        page.locator("derm-lesion"),
    )
    expect(switch).not_to_be_checked()
    expect(line).to_be_hidden()
    expect(card).to_be_hidden()
    switch.check()
    left, top, width, height = place(line.locator(".line"))
    assert (left, top, width, height) == pytest.approx((190, 155, 220, 140), abs=4)
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_function("() => document.querySelector('.zooms output').textContent === '150%'")
    page.locator(".pane").evaluate("pane => Promise.all(pane.getAnimations().map((animation) => animation.finished))")
    assert place(line.locator(".line")) == pytest.approx((left, top, width, height), abs=4)
    page.get_by_role("radio", name="For clinicians").check()
    expect(switch).to_be_checked()
    for words in (
        "observations, not a score. No decision depends on them. Colours change with the camera",
        "millimetres",
        "12% (8.9% to 18%)",
        "49% (37% to 73%)",
        "4% (3% to 6%)",
        "1.09 (0.818 to 1.64)",
        "dark brown 62% · light brown 34%",
    ):
        expect(card).to_contain_text(words)
    page.locator("main").focus()
    page.keyboard.press("o")
    expect(line).to_be_hidden()
    page.emulate_media(media="print")
    expect(page.locator(".paper .facts").filter(has_text="12% (8.9% to 18%)")).to_be_visible()
    expect(page.locator(".paper-frame .outline")).to_be_visible()


def opened_shows(page: Page, points: str | None, diameter: str) -> None:
    """Asserts that the one kept picture, opened in the history, has this outline and longest diameter."""
    page.get_by_role("button", name="Open the picture of").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".traced .line")).to_have_attribute("points", points or "")
    expect(dialog.locator(".traced dd").nth(1)).to_have_text(diameter)
    dialog.get_by_role("checkbox", name="Show outline").uncheck()
    expect(dialog.locator(".traced .line")).to_be_hidden()
    dialog.get_by_role("button", name="Close").click()


@pytest.mark.ci
def test_the_outline_is_corrected_by_hand_and_the_decision_stays(
    outlined: Page, plain: Callable[..., bytes], assess: Callable[..., None], tmp_path: Path
) -> None:
    page = outlined
    assess(page, plain(red=230))
    page.get_by_role("radio", name="For clinicians").check()
    decision = page.locator(".verdict").inner_text()
    card, drawn = page.locator("derm-lesion"), page.locator(".region .outline .line")
    before = drawn.get_attribute("points")
    page.get_by_role("button", name="Correct the outline").click()
    handle = page.get_by_role("button", name="Point 1 of 24")  # the rightmost point of the ellipse
    expect(handle).to_be_focused()
    box = handle.bounding_box()
    assert box is not None
    scale = page.locator(".region").bounding_box()["width"] / REGION["width"]
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60 * scale, y, steps=3)
    page.mouse.up()
    expect(card).to_contain_text("corrected by hand")
    assert place(handle)[0] + place(handle)[2] / 2 == pytest.approx(470, abs=4)
    left, _, width, _ = place(drawn)
    assert (left, left + width) == pytest.approx((190, 470), abs=4)
    diameter = card.locator("dd").nth(1)
    expect(diameter).to_have_text("63%")  # (470 - 190) / 450 and a pixel, without a range
    expect(page.get_by_role("slider", name="Covered by the heatmap")).to_have_value("100")
    dragged = drawn.get_attribute("points")
    page.keyboard.press("Shift+ArrowRight")
    assert drawn.get_attribute("points") != dragged
    page.get_by_role("button", name="Undo").click()
    assert drawn.get_attribute("points") == dragged
    assert page.locator(".verdict").inner_text() == decision
    # on paper, in the file, in the history, and after a reload
    assert "corrected by hand" in page.locator(".paper").evaluate("paper => paper.textContent")
    page.get_by_role("button", name="Keep, print, check yourself").click()
    page.get_by_role("button", name="Turn on the history").click()
    page.get_by_role("button", name="Keep this picture").click()
    expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()
    # the kept outline follows a later correction, also after a reload
    expect(page.locator("#kept")).to_be_visible()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(card).to_contain_text("corrected by hand")
    assert drawn.get_attribute("points") == dragged
    page.get_by_role("button", name="Correct the outline").click()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Escape")
    again = drawn.get_attribute("points")
    assert again != dragged
    widest = card.locator("dd").nth(1).inner_text()
    page.get_by_role("link", name="History").click()
    opened_shows(page, again, widest)
    archive = tmp_path / "history.zip"
    with page.expect_download() as download:
        page.get_by_role("button", name="Export to a file").click()
    download.value.save_as(archive)
    with zipfile.ZipFile(archive) as opened:
        (kept,) = json.loads(opened.read("history.json"))["pictures"]
    assert kept["outline"] == [list(map(float, point.split(","))) for point in str(again).split()]
    page.get_by_role("button", name="Delete everything").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.set_input_files("#import", archive)
    expect(page.get_by_text("1 picture was imported.")).to_be_focused()
    opened_shows(page, again, widest)
    page.get_by_role("link", name="Check", exact=True).click()
    page.get_by_role("button", name="Back to the model's outline").click()
    assert drawn.get_attribute("points") == before
    expect(card).not_to_contain_text("corrected by hand")
    # the model's outline is kept again
    page.get_by_role("link", name="History").click()
    opened_shows(page, before, "49% (37% to 73%)")


def test_corrected_measures_have_columns_of_their_own(outlined: Page, plain, upload) -> None:
    page = outlined
    page.set_input_files("#choose", [upload(plain(red=red), f"{red}.png") for red in (40, 230)])
    page.get_by_role("button", name="Assess all 2 pictures").click()
    expect(page.get_by_role("heading", name="1 of 2 pictures is suspicious")).to_be_focused()
    page.get_by_role("radio", name="For clinicians").check()
    page.get_by_role("button", name="Correct the outline").click()
    page.keyboard.press("Shift+ArrowRight")
    shown = page.locator("derm-lesion dd").nth(1).inner_text()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show as a table").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    other, corrected = csv.DictReader(download.value.path().read_text("utf-8-sig").splitlines())
    assert (corrected["name"], corrected["diameter"], other["diameter"]) == ("230.png", "0.489", "0.489")
    assert f"{float(corrected['corrected_diameter']):.0%}" == shown != "49%"
    assert {other[f"corrected_{name}"] for name in MEASURES} == {""}


def test_lengths_are_in_millimetres_where_the_file_states_a_scale(page: Page) -> None:
    line = [[200, 100], [400, 100], [400, 200], [200, 200]]
    scaled = lesion() | {
        "diameter_mm": {"value": 5.5, "low": 4, "high": 8.25},
        "area_mm2": {"value": 15.1, "low": 11, "high": 23},
    }
    image = {"width": 600, "height": 450, "pixel_spacing_mm": [0.05, 0.025]}  # between rows, between columns
    found = page.evaluate(ROWS, [{"region": REGION, "image": image, "lesion": scaled}, line])
    assert "Millimetres follow from the scale" in found["lead"]
    assert found["model"] == ["Area", "15.1 mm² (11 mm² to 23 mm²)", "Longest diameter", "5.5 mm (4 mm to 8.3 mm)"]
    assert found["measured"]["diameter_mm"] == pytest.approx(np.hypot(200 * 0.025, 100 * 0.05), rel=0.02)
    assert found["measured"]["area_mm2"] == pytest.approx(5 * 5, rel=0.03)
    in_words = [f"{found['measured']['area_mm2']:.1f} mm²", f"{found['measured']['diameter_mm']:.1f} mm"]
    assert found["hand"][1::2] == in_words
    # a service that states only the scale, and one that states none
    assert page.evaluate(ROWS, [{"region": REGION, "image": image, "lesion": lesion()}, line])["model"][1] == "12% (8.9% to 18%)"
    without = page.evaluate(ROWS, [{"region": REGION, "image": image | {"pixel_spacing_mm": None}, "lesion": lesion()}, line])
    assert "Without a scale" in without["lead"]
    assert without["measured"]["diameter_mm"] is None
    assert without["hand"][1].endswith("%")

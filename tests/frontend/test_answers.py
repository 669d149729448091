"""Each decision in words, its numbers, and the heatmap over the assessed region."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

pytestmark = pytest.mark.browser
WHATEVER = "If the spot is new, changing, bleeding or worries you, see a doctor whatever this says."


def shot(locator: Locator) -> np.ndarray:
    """A screenshot of the element: BGR as signed integers."""
    return cv2.imdecode(np.frombuffer(locator.screenshot(animations="disabled"), np.uint8), cv2.IMREAD_COLOR).astype(int)


def scale(page: Page, part: str) -> dict[str, float]:
    box = page.locator(f"derm-scale {part}").bounding_box()
    assert box is not None
    return box


def test_suspicious(page: Page, plain: Callable[..., bytes], assess: Callable[..., None]) -> None:
    assess(page, plain(red=230))
    expect(page.get_by_role("heading", name="Suspicious")).to_be_focused()
    expect(page.locator(".verdict")).to_contain_text("not a diagnosis")
    expect(page.locator(".next")).to_contain_text("dermatologist")
    expect(page.locator("derm-scale")).to_contain_text("90%")


def test_low_suspicion_is_no_all_clear(page: Page, plain, assess) -> None:
    assess(page, plain(red=40))
    expect(page.get_by_role("heading", name="Low suspicion")).to_be_focused()
    verdict = page.locator(".verdict")
    expect(verdict).to_contain_text("the model misses some cancers")
    expect(verdict).to_contain_text("If the spot is new, changing, bleeding or worries you, see a doctor whatever this says.")
    for word in ("benign", "harmless", "healthy", "all clear", "safe"):
        expect(verdict).not_to_contain_text(re.compile(rf"\b{word}\b", re.I))


def test_uncertain_says_why(page: Page, plain, assess) -> None:
    assess(page, plain(red=128))
    expect(page.get_by_role("heading", name=re.compile("^Uncertain"))).to_be_focused()
    expect(page.locator(".verdict")).to_contain_text("too close to the threshold")
    expect(page.locator(".next")).to_contain_text("Take another picture")


def test_quality_warning_makes_a_low_suspicion_uncertain(page: Page, plain, assess) -> None:
    assess(page, plain(red=40, green=10, blue=5))
    expect(page.get_by_role("heading", name=re.compile("^Uncertain"))).to_be_focused()
    expect(page.locator(".verdict")).to_contain_text("quality is too low")
    expect(page.locator(".warnings")).to_contain_text("The picture is very dark.")


def test_rejected_shows_no_number(page: Page, plain, assess) -> None:
    assess(page, plain(red=230, blue=220))
    expect(page.get_by_role("heading", name="Not assessed")).to_be_focused()
    expect(page.locator(".verdict")).to_contain_text("does not resemble the dermoscopic pictures")
    expect(page.locator(".next")).to_contain_text("dermatoscope")
    for place in ("#outcome", "derm-findings", ".caption"):
        assert not re.search(r"\d", page.locator(place).inner_text())
    expect(page.locator("derm-scale")).to_have_count(0)
    expect(page.locator(".classes")).to_have_count(0)
    expect(page.locator(".controls")).to_be_hidden()
    expect(page.locator(".heat")).to_be_hidden()
    expect(page.locator(".region")).to_be_visible()
    assert "%" not in page.locator(".paper").evaluate("paper => paper.textContent")


@pytest.mark.parametrize("red", [40, 128, 210, 230])
def test_every_answer_ends_with_the_doctor_and_calls_nothing_benign(page: Page, plain, assess, red: int) -> None:
    assess(page, plain(red=red, blue=220 if red == 210 else 10))
    expect(page.locator(".brief .whatever")).to_have_text(WHATEVER)
    verdict = page.locator(".verdict")
    for word in ("benign", "harmless", "healthy", "all right"):
        expect(verdict).not_to_contain_text(re.compile(rf"\b{word}\b", re.I))


def test_a_sentence_where_the_first_class_and_the_decision_differ(page: Page, plain, assess) -> None:
    # the steerable model divides malignancy among three classes and the rest among four
    assess(page, plain(red=106))
    expect(page.locator(".differs")).to_contain_text("which is not malignant")
    assess(page, plain(red=40))
    expect(page.locator(".differs")).to_have_count(0)


@pytest.mark.parametrize("red", [0, 128, 255])
def test_scale_shows_where_the_picture_stands(page: Page, plain, assess, red: int) -> None:
    assess(page, plain(red=red))
    track, pin, limit, band = (scale(page, part) for part in (".track", ".pin", ".limit-line", ".band"))

    def place(x: float) -> float:
        return (x - track["x"] - 1) / (track["width"] - 2)

    def drawn(share: float) -> float:
        """The position on the scale, which shows log-odds from 0.1% to 99.9%."""
        return 0.5 + math.log(share / (1 - share)) / (2 * math.log(999))

    assert place(pin["x"] + pin["width"] / 2) == pytest.approx(drawn(min(0.999, max(0.001, red / 255))), abs=0.01)
    assert place(limit["x"] + limit["width"] / 2) == pytest.approx(drawn(0.5), abs=0.01)
    assert place(band["x"]) == pytest.approx(drawn(0.4), abs=0.01)
    assert place(band["x"] + band["width"]) == pytest.approx(drawn(0.6), abs=0.01)
    drawing = scale(page, ".scale")
    for label in (".here", ".limit"):  # labels stay inside, even at the ends
        box = scale(page, label)
        assert drawing["x"] <= box["x"]
        assert box["x"] + box["width"] <= drawing["x"] + drawing["width"] + 0.5
    # a percentage is never shown without what it assumes
    expect(page.locator("derm-scale")).to_contain_text("where 30 of 100 lesions that are examined are malignant")
    expect(page.locator("derm-scale")).to_contain_text("40% to 60%")
    expect(page.locator("derm-findings")).to_contain_text("if 30 of 100 lesions are malignant")


def test_another_share_of_cancers_moves_the_estimate_and_no_decision(page: Page, plain, assess) -> None:
    assess(page, plain(red=230))
    chooser = page.get_by_label("Where is the spot examined?")
    expect(chooser.locator("option:checked")).to_have_text("The model's own figures: 30%")
    before = page.locator(".verdict .urgency").inner_text()
    chooser.select_option(label="Family practice: 2%")
    odds = 230 / 25 * (0.02 / 0.98) / (0.3 / 0.7)  # Bayes' rule
    probability, threshold = odds / (1 + odds), 1 / (1 + 0.98 / 0.02 * 0.3 / 0.7)
    verdict = page.locator(".verdict")
    expect(verdict).to_contain_text(f"Of 100 spots with this estimate, about {100 * probability:.0f} would be skin cancer.")
    expect(verdict.locator(".dots .full")).to_have_count(round(100 * probability))
    expect(verdict.locator("derm-scale")).to_contain_text(f"This picture: {100 * probability:.0f}%")
    expect(verdict.locator("derm-scale")).to_contain_text(f"Threshold: {100 * threshold:.1f}%")
    expect(verdict.locator("derm-scale")).to_contain_text("where 2 of 100 lesions that are examined are malignant")
    expect(verdict).to_have_attribute("data-decision", "suspicious")
    assert page.locator(".verdict .urgency").inner_text() == before
    # the chosen place also applies to the next answer
    assess(page, plain(red=60))
    expect(chooser.locator("option:checked")).to_contain_text("Family practice")
    expect(page.locator("derm-scale")).to_contain_text("where 2 of 100 lesions")
    chooser.select_option(index=0)
    expect(page.locator("derm-scale")).to_contain_text("where 30 of 100 lesions")


def test_classes_stand_below_highest_first(page: Page, plain, assess) -> None:
    assess(page, plain(red=230))
    rows = page.locator(".classes li")
    assert rows.count() == 7
    values = [float(text.rstrip("%")) for text in rows.locator(".value").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert page.locator(".classes .malignant").count() == 3
    expect(rows.first).to_contain_text("malignant")
    decision, classes = page.locator(".verdict").bounding_box(), page.locator(".classes").bounding_box()
    assert decision["y"] + decision["height"] <= classes["y"]


def test_decision_comes_first_on_a_phone(new_page, service, plain, assess) -> None:
    page = new_page(service.url, width=360, height=800)
    assess(page, plain(red=230))
    tops = [page.locator(part).bounding_box()["y"] for part in (".verdict", ".picture", ".classes")]
    assert tops == sorted(tops)
    expect(page.get_by_role("heading", name="Suspicious")).to_be_in_viewport()
    assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_figures_name_model_and_request(page: Page, plain, assess) -> None:
    with page.expect_response("**/api/predict?explain=true") as answered:
        assess(page, plain(red=40))
    page.get_by_text("Figures for this answer").click()
    figures = page.locator("derm-findings .facts")
    expect(figures).to_contain_text("melanoma, version 1")
    expect(figures).to_contain_text("600 × 450 pixels, PNG")
    expect(figures).to_contain_text(answered.value.json()["request_id"])


@pytest.mark.parametrize(("width", "height"), [(600, 450), (300, 480), (900, 150)])
def test_region_lies_where_it_was_judged(page: Page, plain, assess, width: int, height: int) -> None:
    assess(page, plain(red=230, width=width, height=height))
    photo, region, heat = (page.locator(part).bounding_box() for part in (".photo", ".region", ".lines"))
    side, zoom = min(width, height), photo["width"] / width
    assert photo["height"] / height == pytest.approx(zoom, rel=0.02)
    for box in (region, heat):
        assert box["x"] - photo["x"] == pytest.approx((width - side) // 2 * zoom, abs=1.5)
        assert box["y"] - photo["y"] == pytest.approx((height - side) // 2 * zoom, abs=1.5)
        assert box["width"] == pytest.approx(side * zoom, abs=1.5)
        assert box["height"] == pytest.approx(side * zoom, abs=1.5)


def test_heatmap_colours_the_place_that_the_model_names(page: Page, assess) -> None:
    # The steerable model's heatmap is the green channel: here a spot in the upper left of the assessed square.
    picture = np.full((450, 600, 3), (10, 20, 220), np.uint8)
    cv2.circle(picture, (75 + 140, 130), 60, (10, 255, 220), -1)
    done, data = cv2.imencode(".png", picture)
    assert done
    assess(page, data.tobytes())
    page.get_by_role("radio", name="Colours").check()
    page.wait_for_function("() => document.querySelector('.heat').complete")
    page.get_by_role("slider", name="Opacity").fill("100")
    frame = page.locator(".frame")
    covered = shot(frame)
    page.get_by_role("checkbox", name="Show heatmap").uncheck()
    change = np.abs(shot(frame) - covered).sum(axis=2)
    zoom = change.shape[1] / 600

    def seen(x: int, y: int) -> float:
        at = change[int((y - 15) * zoom) : int((y + 15) * zoom), int((x - 15) * zoom) : int((x + 15) * zoom)]
        return float(at.mean())

    assert seen(75 + 140, 130) > 60
    assert seen(75 + 140, 130) > 3 * seen(75 + 360, 340)
    assert change[:, : int(70 * zoom)].max() == 0  # nothing is drawn outside the region
    assert change[:, int(531 * zoom) :].max() == 0


def test_dividing_line_lays_the_heatmap_over_one_part(page: Page, plain, assess) -> None:
    assess(page, plain(red=230))
    split = page.get_by_role("slider", name="Covered by the heatmap")
    split.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(split).to_have_attribute("aria-valuetext", "97%")
    region = page.locator(".region").bounding_box()
    page.mouse.move(region["x"] + region["width"] * 0.9, region["y"] + 40)
    page.mouse.down()
    page.mouse.move(region["x"] + region["width"] * 0.25, region["y"] + 40, steps=3)
    page.mouse.up()
    expect(split).to_have_value("25")
    divider = page.locator(".divider").bounding_box()
    assert divider["x"] - region["x"] == pytest.approx(region["width"] * 0.25, abs=2)
    assert page.locator(".heat").evaluate("heat => getComputedStyle(heat).clipPath").startswith("inset(0px 75%")


def test_self_check_sends_to_the_doctor_whatever_the_answer(page: Page, plain, assess) -> None:
    assess(page, plain(red=40))
    advice = page.locator(".abcde [role=status]")
    expect(advice).to_have_text(WHATEVER)
    page.get_by_role("checkbox", name=re.compile("^Evolution")).check()
    expect(advice).to_contain_text("You ticked 1 sign. Have a doctor look at the spot")
    page.get_by_role("checkbox", name=re.compile("^Border")).check()
    expect(advice).to_contain_text("You ticked 2 signs.")


def test_words_of_the_server_are_shown_where_the_page_has_none(page: Page, plain, assess) -> None:
    def changed(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["quality"]["warnings"] = [{"code": "of_tomorrow", "text": "A spider sits on the lens.", "advisory": True}]
        body["reasons"] = [{"code": "new_reason", "text": "The stars stand badly."}]
        route.fulfill(response=answer, json=body)

    page.route("**/api/predict?explain=true", changed)
    assess(page, plain(red=230))
    expect(page.locator(".warnings")).to_contain_text("A spider sits on the lens.")
    expect(page.locator(".verdict")).to_contain_text("The stars stand badly.")


def test_rotated_photograph_is_shown_as_it_was_judged(page: Page, assess, plain) -> None:
    jpeg = plain(red=230, width=500, height=300, suffix=".jpg")
    # EXIF orientation 6: the camera was held upright, with its sensor on its side
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    assess(page, jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:], "photo.jpg", "image/jpeg")
    photo, region = page.locator(".photo").bounding_box(), page.locator(".region").bounding_box()
    assert photo["width"] / photo["height"] == pytest.approx(300 / 500, rel=0.02)
    assert region["width"] == pytest.approx(photo["width"], abs=1.5)
    assert region["y"] - photo["y"] == pytest.approx((photo["height"] - region["height"]) / 2, abs=1.5)


def tiff(kind: str) -> bytes:
    """A TIFF of 600 x 450 pixels, suspicious red with a green square of 100 pixels in the upper left."""
    picture = np.full((450, 600, 3), (230, 20, 10), np.uint8)
    picture[:100, :100] = (10, 250, 30)
    file = io.BytesIO()
    image = Image.fromarray(picture)
    options: dict[str, object] = {}
    if kind in ("lzw", "tiff_adobe_deflate", "packbits"):
        options = {"compression": kind}
    elif kind == "predictor":
        options = {"compression": "tiff_lzw", "tiffinfo": {317: 2}}
    elif kind == "palette":
        image = image.quantize(16)
    elif kind == "turned":
        options = {"tiffinfo": {274: 6}}
    if kind == "lzw":
        options = {"compression": "tiff_lzw"}
    image.save(file, "TIFF", **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["plain", "lzw", "tiff_adobe_deflate", "packbits", "predictor", "palette", "turned"])
def test_tiff_is_shown_although_the_browser_shows_none(page: Page, assess, kind: str) -> None:
    assess(page, tiff(kind), "scan.tiff", "image/tiff")
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")
    expect(page.locator(".photo")).to_be_visible()
    expect(page.locator("#answer-of img")).to_be_visible()
    expect(page.get_by_role("button", name="Crop or turn")).to_be_visible()
    page.get_by_role("checkbox", name="Show heatmap").uncheck()
    size = page.locator(".photo").evaluate("photo => [photo.naturalWidth, photo.naturalHeight]")
    assert size == ([450, 600] if kind == "turned" else [600, 450])
    seen = shot(page.locator(".frame"))
    zoom = seen.shape[1] / size[0]
    spot = (size[0] - 20 if kind == "turned" else 20, 20)
    assert seen[int(spot[1] * zoom), int(spot[0] * zoom)].argmax() == 1
    assert seen[int(300 * zoom), int(200 * zoom)].argmax() == 2


def test_a_kind_of_tiff_that_cannot_be_shown_is_judged_all_the_same(page: Page, assess) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((450, 600), 200, np.uint8)).convert("1").save(file, "TIFF", compression="group4")
    assess(page, file.getvalue(), "scan.tiff", "image/tiff")
    expect(page.locator(".no-preview")).to_be_visible()
    expect(page.locator(".verdict")).to_be_visible()


def test_a_finger_scrolls_over_the_picture_and_the_heatmap_stays(new_page, service, plain, assess) -> None:
    page = new_page(service.url, width=360, height=740, has_touch=True, is_mobile=True)
    assess(page, plain(red=230))
    split = page.get_by_role("slider", name="Covered by the heatmap")
    page.locator(".region").scroll_into_view_if_needed()
    box = page.locator(".region").bounding_box()
    x, y = box["x"] + 0.2 * box["width"], box["y"] + 0.7 * box["height"]
    touch = page.context.new_cdp_session(page)

    def finger(*places: tuple[float, float]) -> None:
        for at, (left, top) in enumerate(places):
            kind = "touchStart" if at == 0 else "touchMove"
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": left, "y": top}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    finger((x, y))  # a tap
    expect(split).to_have_value("100")
    before = page.evaluate("() => window.scrollY")
    finger(*((x - 4 * step, y - 12 * step) for step in range(10)))  # no finger moves exactly straight up
    expect(split).to_have_value("100")
    page.wait_for_function("before => window.scrollY > before", arg=before)
    page.locator(".region").scroll_into_view_if_needed()
    box = page.locator(".region").bounding_box()
    x, y = box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"]
    finger(*((x - 0.05 * box["width"] * step, y) for step in range(11)))  # to the left by half the width
    assert 40 <= int(split.input_value()) <= 65


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.ci
def test_answers_have_contrast(new_page, service, plain, assess, contrast: str, scheme: str) -> None:
    page = new_page(service.url, color_scheme=scheme)
    for red, blue in [(40, 10), (128, 10), (230, 10), (230, 220)]:
        assess(page, plain(red=red, blue=blue))
        assert page.evaluate(contrast) == []


def test_forced_colours_keep_the_scale_readable(new_page, service, plain, assess) -> None:
    page = new_page(service.url, forced_colors="active")
    assess(page, plain(red=230))
    for part in (".track", ".pin", ".limit-line", ".band"):
        width = page.locator(f"derm-scale {part}").evaluate("e => getComputedStyle(e).borderLeftWidth")
        assert width != "0px"

"""Problems found in ordinary use: printing, heavy compression, wording that fits the numbers, folders, several answers."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect
from tests.fhir import fhir_validator

pytestmark = pytest.mark.browser
HEAVY = """async (encoded) => {
  const { isHeavilyCompressed } = await import(new URL('js/intake/compression.js', location.href));
  return isHeavilyCompressed(new Blob([Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))]));
}"""


def photograph(kind: str, **options: object) -> bytes:
    """Noise over a gradient, so that compression loses detail."""
    rng = np.random.default_rng(1)
    slope = np.linspace(60, 220, 320)[None, :, None] + rng.normal(0, 25, (240, 320, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(slope, 0, 255).astype(np.uint8)).save(file, kind, **options)
    return file.getvalue()


def test_heavy_compression_is_seen_in_the_file(page: Page) -> None:
    found = {
        (kind, quality): page.evaluate(HEAVY, base64.b64encode(photograph(kind, quality=quality)).decode())
        for kind in ("JPEG", "WEBP")
        for quality in (20, 60, 80, 95)
    }
    assert {key for key, heavy in found.items() if heavy} == {
        ("JPEG", 20),
        ("JPEG", 60),
        ("WEBP", 20),
        ("WEBP", 60),
        ("WEBP", 80),
    }
    for other in (photograph("WEBP", lossless=True), photograph("PNG"), photograph("JPEG", quality=20)[:300], b"\xff\xd8\xff"):
        heavy = page.evaluate(HEAVY, base64.b64encode(other).decode())
        assert heavy is other.startswith(b"\xff\xd8\xff\xe0")  # the truncated JPEG: its quantisation table comes first


def test_heavy_compression_is_said_before_and_after_the_answer(page: Page, assess, choose) -> None:
    def with_even(route: Route) -> None:
        answer = route.fetch()
        even = {"id": "mel", "name": "Melanoma", "probability_at_even_prevalence": 0.62, "note": "It decides nothing."}
        route.fulfill(response=answer, json=answer.json() | {"most_likely": even})

    page.route("**/api/predict?explain=true", with_even)
    picture = Image.fromarray(np.full((450, 600, 3), (230, 120, 10), np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    choose(page, file.getvalue(), "lesion.jpg", "image/jpeg")
    expect(page.locator("#concerns")).to_contain_text("The picture is heavily compressed")
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".warnings")).to_contain_text("can be another one for the original file")
    # the best fit at even prevalence, with an explanation
    expect(page.locator(".evenly")).to_contain_text("If all kinds were equally common, “Melanoma” would fit best (62%).")
    expect(page.locator(".evenly")).to_contain_text("it decides nothing")


@pytest.mark.parametrize(
    ("red", "count", "step"), [(230, "about 90 would", "now"), (165, "about 65 would", "now"), (40, "about 16 would", "watch")]
)
def test_words_follow_the_estimate(page: Page, plain, assess, red: int, count: str, step: str) -> None:
    assess(page, plain(red=red))
    verdict = page.locator(".verdict")
    expect(verdict).to_contain_text(f"Of 100 spots with this estimate, {count} be skin cancer")
    expect(verdict.locator(".dots .full")).to_have_count(int(re.search(r"\d+", count)[0]))
    expect(verdict.locator(".urgency")).to_have_attribute("data-step", step)


def test_low_suspicion_says_how_many_cancers_the_models_test_missed(page: Page, plain, assess) -> None:
    def metrics(route: Route) -> None:
        test = {"malignant_low_suspicion": {"value": 0.0402}, "n_malignant": {"value": 472.0}}
        biopsied = {"sensitivity": {"value": 0.966}, "specificity": {"value": 0.226}, "n": {"value": 280.0}}
        body = {"card": "", "version": "1", "metrics": {"test": test, "test/biopsied": biopsied}}
        route.fulfill(json=body)

    page.route("**/api/models/melanoma", metrics)
    assess(page, plain(red=40))
    expect(page.locator(".missed")).to_have_text("In its test, 19 of 472 cancers got this answer.")
    expect(page.locator(".verdict .truth")).to_contain_text("On 280 lesions that were biopsied")
    expect(page.locator(".verdict .truth")).to_contain_text("for 97 of 100 cancers and for 77 of 100 lesions that were none")


@pytest.mark.parametrize("language", ["en", "de", "ar"])
def test_paper_is_one_sheet(new_page, service, language: str, plain, choose, open_more) -> None:
    # the longest answer: an upright, uncertain picture with a warning because it is dark
    page = new_page(service.url + f"?lang={language}")
    choose(page, plain(red=110, green=5, blue=5, width=400, height=600))
    page.locator("#assess").click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "uncertain")
    open_more(page)
    expect(page.locator(".warnings")).to_be_visible()
    expect(page.locator(".keep h2")).to_be_visible()
    pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    if language != "en":
        words = json.loads((Path(__file__).resolve().parents[2] / f"frontend/public/locales/{language}.json").read_text("utf-8"))
        assert words["translation"]["line"] in page.locator(".paper").evaluate("e => e.textContent")


def test_ticks_stay_when_the_language_or_the_picture_changes(page: Page, plain, upload) -> None:
    page.set_input_files("#choose", [upload(plain(red=red), f"{red}.png") for red in (40, 230)])
    page.get_by_role("button", name="Assess all 2 pictures").click()
    expect(page.locator(".queue li[data-state=result]")).to_have_count(2)
    page.locator(".queue-choose").filter(has_text="40.png").click()
    page.locator(".abcde input").nth(1).check()
    page.get_by_label("Language").select_option("de")
    page.locator(".queue-choose").filter(has_text="230.png").click()
    assert page.locator(".abcde input").nth(1).is_checked() is False
    page.locator(".queue-choose").filter(has_text="40.png").click()
    assert page.locator(".abcde input").nth(1).is_checked() is True


def test_all_answers_as_a_table_and_as_files(page: Page, plain, upload, tmp_path: Path) -> None:
    page.evaluate("() => { window.print = () => { window.printed = document.querySelectorAll('.papers .paper').length; }; }")
    files = [
        upload(plain(red=red, blue=blue), name)
        for name, red, blue in (("=a, 1.png", 40, 10), ("b.png", 230, 10), ("c.png", 210, 220))
    ]
    page.set_input_files("#choose", [*files, upload(plain(suffix=".jpg")[:-400], "d.jpg", "image/jpeg")])
    page.get_by_role("button", name="Assess all 4 pictures").click()
    expect(page.get_by_role("heading", name="1 of 4 pictures is suspicious")).to_be_focused()
    page.get_by_role("button", name="Show as a table").click()
    table = page.get_by_role("dialog")
    names = table.locator("tbody th")
    expect(names).to_have_text(["b.png", "c.png", "d.jpg", "=a, 1.png"])  # most urgent first
    expect(table.locator("tbody tr").first).to_contain_text("90.2%")
    assert "%" not in table.locator("tbody tr").nth(1).inner_text()  # this picture was not assessed
    table.get_by_role("button", name="Estimate").click()
    table.get_by_role("button", name="Estimate").click()
    expect(names.last).to_have_text("b.png")

    def saved(kind: str) -> str:
        with page.expect_download() as download:
            table.get_by_role("button", name=f"Save as {kind}").click()
        download.value.save_as(tmp_path / kind)
        return (tmp_path / kind).read_text("utf-8-sig")

    rows = list(csv.DictReader(io.StringIO(saved("CSV"))))
    by_name = {row["name"]: row for row in rows}
    assert set(by_name) == {"'=a, 1.png", "b.png", "c.png", "d.jpg"}  # escaped, so that no spreadsheet runs it as a formula
    assert by_name["b.png"]["decision"] == "suspicious"
    assert float(by_name["b.png"]["probability"]) == pytest.approx(0.902, abs=0.001)
    assert by_name["c.png"]["probability"] == by_name["c.png"]["class_mel"] == ""
    assert by_name["d.jpg"]["problem"] == "truncated"
    assert all("not a diagnosis" in row["disclaimer"] for row in rows)
    assert {entry["name"] for entry in json.loads(saved("JSON"))["results"]} == {"=a, 1.png", "b.png", "c.png", "d.jpg"}
    bundle = json.loads(saved("FHIR"))
    assert (bundle["resourceType"], bundle["type"], len(bundle["entry"])) == ("Bundle", "collection", 4)
    assert fhir_validator()(bundle) == []
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert resource["resourceType"] == "Observation"
        assert ("valueQuantity" in resource) != ("dataAbsentReason" in resource)
    table.get_by_role("button", name="Print all").click()
    page.wait_for_function("() => window.printed === 3")
    names.first.get_by_role("button").click()
    expect(table).to_have_count(0)


@pytest.mark.parametrize("beside", [False, True])
def test_a_dropped_folder_brings_its_pictures(page: Page, plain, tmp_path: Path, beside: bool) -> None:
    """Uses real drag events, because a script cannot create a folder."""
    folder = tmp_path / "pictures"
    (folder / "inner").mkdir(parents=True)
    for name in ("a.png", ".hidden.png", "inner/b.png"):
        (folder / name).write_bytes(plain())
    (tmp_path / "c.png").write_bytes(plain())
    session = page.context.new_cdp_session(page)
    paths = [str(folder), *([str(tmp_path / "c.png")] if beside else [])]
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": paths, "dragOperationsMask": 1}
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    expect(page.locator(".queue-name")).to_have_text(["a.png", "b.png", *(["c.png"] if beside else [])])


def test_a_drawn_picture_is_tried_with_one_click(new_page, service) -> None:
    page = new_page(service.url, width=360, height=740)
    # the options are on the first screen
    expect(page.get_by_text("Do you have a dermatoscope picture?")).to_be_in_viewport()
    expect(page.locator("#choose")).to_be_in_viewport(ratio=1)
    page.get_by_text("No, I have none").click()
    expect(page.locator("#none")).to_contain_text("You need no picture to see a doctor.")
    page.get_by_role("button", name="Suspicious spot").click()
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.locator("#answer-of")).to_contain_text("Suspicious spot")


def test_a_reload_asks_before_it_drops_an_unfinished_queue(page: Page, plain, upload) -> None:
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == []
    page.set_input_files("#choose", [upload(plain(red=red), f"{red}.png") for red in (40, 230)])
    page.get_by_role("button", name="Assess all 2 pictures").focus()
    page.keyboard.press("Tab")  # browsers only ask after a user action
    page.reload()
    assert asked == ["beforeunload"]


def test_a_file_that_is_too_large_is_offered_as_a_smaller_copy(page: Page, sent_file, tmp_path: Path) -> None:
    file = tmp_path / "large.bmp"
    Image.fromarray(np.full((2200, 3200, 3), (230, 20, 10), np.uint8)).save(file)  # 21 MB, more than the limit
    page.set_input_files("#choose", file)
    page.get_by_role("button", name="Use a smaller copy").click()
    expect(page.get_by_role("button", name="Assess this picture")).to_be_focused()
    sent = sent_file(page, lambda: (page.locator("#assess").click(), expect(page.locator(".verdict")).to_be_visible()))
    assert Image.open(io.BytesIO(sent)).size == (2000, 1375)
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")


def test_the_history_is_put_right(page: Page, plain, assess) -> None:
    for at, red in enumerate((230, 40)):
        assess(page, plain(red=red))
        expect(page.locator(".keep h2")).to_be_visible()
        if at == 0:
            page.get_by_role("button", name="Turn on the history").click()
        page.get_by_label("Name (if you like)").fill(f"spot {at}")
        page.get_by_role("button", name="Keep this picture").click()
        expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()
    page.get_by_role("link", name="Open the history").click()
    page.get_by_role("button", name=re.compile("^Open the picture of Elsewhere: spot 1")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("img")).to_be_visible()
    dialog.get_by_label("Date of the picture").fill("2024-02-29")
    dialog.get_by_label("Which spot?").select_option(label="Elsewhere: spot 0")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The change is saved.")).to_be_focused()
    expect(page.locator(".dates time")).to_have_text(["February 29, 2024", re.compile(r"\d{4}$")])  # one spot, oldest first
    page.get_by_role("button", name="Rename the spot").click()
    page.get_by_role("dialog").get_by_label("Where on the body?").select_option("leftArm")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Left arm: spot 0")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Open the picture of Left arm: spot 0, February")).click()
    page.get_by_role("dialog").get_by_role("button", name="Assess it again").click()
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "low_suspicion")

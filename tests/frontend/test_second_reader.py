"""Second reader: readers assess before the model's answer is shown and again after it; both are exported."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect
from tests.machines import eventually
from tests.servers import Server

pytestmark = pytest.mark.browser
READY = "html[data-ready]"
DATABASES = "async () => (await indexedDB.databases()).map(({ name }) => name)"
READINGS = """async () => {
  const { readings, toCsv } = await import(new URL('js/reader/store.js', location.href));
  return (await readings()).map((reading) => ({ ...reading, row: toCsv([reading]).trim() }));
}"""
COLUMNS = (
    "reader,case,truth,before_decision,before_confidence,before_seconds,model_decision,model_probability,model,"
    "after_decision,after_confidence,after_seconds,photographs"
)


@pytest.fixture
def reading(new_page: Callable[..., Page], service: Server) -> Page:
    """The page of a second reader with the label R2."""
    page = new_page(service.url, load=False)
    page.add_init_script("if (!sessionStorage.length) localStorage.setItem('aiderm-reader', 'R2');")
    page.goto(service.url)
    page.wait_for_selector(READY)
    return page


def nothing_is_seen(page: Page) -> None:
    """Asserts that the page reveals nothing of an answer, in words, numbers, marks or a table."""
    assert (
        page.evaluate("() => /suspic|malign|uncertain|estimate|probab/i.test(document.body.innerText + document.title)") is False
    )
    for place in ("derm-verdict", "derm-findings", "#after", "derm-scale"):
        assert page.locator(f"{place} *").count() == 0, place
    assert page.locator("[data-decision]:not([data-decision=''])").count() == 0
    assert page.locator("derm-heatmap").get_by_role("checkbox", name="Show heatmap").is_visible() is False
    expect(page.locator("#show-table")).to_be_hidden()


def say(page: Page, decision: str, sure: int, then: str) -> None:
    form = page.locator("derm-reader")
    form.get_by_role("radio", name=decision).check()
    form.get_by_role("slider").fill(str(sure))
    form.get_by_role("button", name=then).click()


def test_the_answer_is_shown_after_the_reader_has_committed_and_both_are_exported(
    reading: Page, plain: Callable[..., bytes], upload: Callable[..., FilePayload], tmp_path: Path
) -> None:
    page = reading
    page.set_input_files("#choose", [upload(plain(red=red), f"{red}.png") for red in (40, 230, 128)])
    page.get_by_role("button", name="Assess all 3 pictures").click()
    waiting = page.locator(".queue li[data-state=reading]")
    expect(waiting).to_have_count(3)
    expect(page.locator("#run-bar")).to_be_hidden()
    nothing_is_seen(page)
    expect(page.locator(".queue-name")).to_have_text(["40.png", "230.png", "128.png"])  # not sorted by urgency
    # still hidden after a reload
    eventually(lambda: "aiderm-queue" in page.evaluate(DATABASES), 20, "the pictures are kept")
    page.wait_for_timeout(300)
    page.reload()
    page.wait_for_selector(READY)
    expect(waiting).to_have_count(3)
    nothing_is_seen(page)

    expect(page.get_by_label("Name or number of the case")).to_have_value("1")
    page.get_by_label("Name or number of the case").fill("naevus, left")
    page.get_by_role("button", name="Save and show").click()  # without a decision this does nothing
    nothing_is_seen(page)
    say(page, "Refer or biopsy", 70, "Save and show")
    verdict = page.locator(".verdict")
    expect(verdict).to_have_attribute("data-decision", "low_suspicion")
    expect(verdict.locator("h2")).to_be_focused()
    expect(waiting).to_have_count(2)
    expect(page.locator("derm-reader")).to_contain_text("Before, you said: Refer or biopsy, 70% sure.")
    say(page, "Neither", 80, "Save my final")
    expect(page.locator("derm-reader h2")).to_be_focused()
    page.locator(".queue-choose").filter(has_text="230.png").click()
    expect(page.get_by_label("Name or number of the case")).to_have_value("2")
    say(page, "I am unsure", 10, "Save and show")
    expect(verdict).to_have_attribute("data-decision", "suspicious")

    page.locator("derm-reader").get_by_role("button", name="settings").click()
    dialog = page.get_by_role("dialog", name="Second reader")
    expect(dialog).to_contain_text("1 of 2 cases is complete.")
    with page.expect_download() as saved:
        dialog.get_by_role("button", name="Save as CSV").click()
    saved.value.save_as(tmp_path / "readings.csv")
    assert (tmp_path / "readings.csv").read_text("utf-8").startswith(COLUMNS)
    with (tmp_path / "readings.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row.pop("before_seconds")) < 120
    assert 0 < float(row.pop("after_seconds")) < 120
    assert float(row.pop("model_probability")) == pytest.approx(40 / 255, abs=0.02)
    assert row == {
        "reader": "R2", "case": "naevus, left", "truth": "", "before_decision": "refer", "before_confidence": "0.7",
        "model_decision": "low_suspicion", "model": "melanoma 1", "after_decision": "no_refer", "after_confidence": "0.8",
        "photographs": "1",
    }  # fmt: skip
    dialog.get_by_role("button", name="Delete the case 2").click()
    expect(dialog).to_contain_text("1 of 1 cases is complete.")
    dialog.get_by_role("button", name="Delete all cases").click()
    eventually(lambda: "aiderm-readings" not in page.evaluate(DATABASES), 20, "the readings are gone")
    # when it is turned off, nothing is held back
    dialog.get_by_role("checkbox").uncheck()
    dialog.get_by_role("button", name="Close").click()
    expect(waiting).to_have_count(0)
    assert page.evaluate("() => localStorage.getItem('aiderm-reader')") is None


def test_further_photographs_are_added_before_the_answer_is_shown(
    reading: Page, plain: Callable[..., bytes], upload: Callable[..., FilePayload], choose: Callable[..., None]
) -> None:
    page = reading
    choose(page, plain(red=40), "first.png")
    page.locator("#assess").click()
    expect(page.locator("derm-reader h2")).to_be_focused()
    page.get_by_role("button", name="Add a photograph of the same spot").click()
    with page.expect_response("**/predict/lesion*") as answered:
        page.locator("dialog input").set_input_files([upload(plain(red=230), "second.png")])
    expect(page.locator("derm-reader h2")).to_be_focused()
    rows = page.locator("derm-spot li")
    expect(rows).to_have_count(2)
    nothing_is_seen(page)
    first = page.locator(".photo").get_attribute("src")
    rows.nth(1).get_by_role("button", name="Photograph 2", exact=True).click()
    expect(page.locator(".photo")).not_to_have_attribute("src", first or "")
    nothing_is_seen(page)
    say(page, "Refer or biopsy", 70, "Save and show")
    answer = answered.value.json()
    assert answer["decision"] == "uncertain"  # the photographs disagree
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "uncertain")
    expect(page.locator("derm-spot")).to_contain_text("The answer rests on 2 of 2 photographs.")
    expect(page.locator(".photo")).not_to_have_attribute("src", first or "")
    expect(page.get_by_role("button", name="Add a photograph of the same spot")).to_be_hidden()
    say(page, "Refer or biopsy", 80, "Save my final")
    expect(page.locator("derm-reader")).to_contain_text("Both of your assessments")
    (kept,) = page.evaluate(READINGS)
    assert (kept["photographs"], kept["probability"]) == (2, answer["malignancy"]["probability"])
    assert kept["row"].endswith(",2")
    page.evaluate("() => localStorage.removeItem('aiderm-reader')")


def test_where_nothing_can_be_kept_the_answer_stays_hidden(
    reading: Page, plain: Callable[..., bytes], choose: Callable[..., None]
) -> None:
    page = reading
    page.evaluate("() => { IDBFactory.prototype.open = () => { throw new Error('full'); }; }")
    choose(page, plain(red=230))
    page.locator("#assess").click()
    expect(page.locator("derm-reader h2")).to_be_focused()
    page.get_by_label("Name or number of the case").fill("1")
    say(page, "Neither", 50, "Save and show")
    expect(page.locator("derm-reader [role=status]")).to_contain_text("This browser cannot keep your assessments.")
    nothing_is_seen(page)

"""The history on this device: off until asked for, compared by eye, exported, imported, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]
DATABASES = "async () => (await indexedDB.databases()).map(({ name }) => name)"


def keep(page: Page, plain: Callable[..., bytes], assess: Callable[..., None], red: int, new: bool = True) -> None:
    assess(page, plain(red=red))
    expect(page.locator(".keep h2")).to_be_visible()
    if page.get_by_role("button", name="Turn on the history").is_visible():
        page.get_by_role("button", name="Turn on the history").click()
    if new:
        page.get_by_label("Where on the body?").select_option("upperBack")
        page.get_by_label("Name (if you like)").fill("the dark one")
    else:
        page.get_by_label("Which spot?").select_option(index=1)
    page.get_by_role("button", name="Keep this picture").click()
    expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()


def test_nothing_is_kept_until_the_history_is_turned_on(page: Page, plain, assess) -> None:
    assess(page, plain(red=230))
    expect(page.get_by_role("button", name="Turn on the history")).to_be_visible()
    page.get_by_role("link", name="History").first.click()
    expect(page.get_by_role("heading", name="The history is off")).to_be_visible()
    assert page.evaluate(DATABASES) == []


def test_keep_compare_export_delete_import(page: Page, plain, assess, tmp_path: Path) -> None:
    sent: list[str] = []
    keep(page, plain, assess, 60)
    keep(page, plain, assess, 230, new=False)
    page.on("request", lambda request: sent.append(request.method))
    page.get_by_role("link", name="Open the history").click()
    expect(page.get_by_role("heading", level=1, name="Over time")).to_be_focused()
    mole = page.get_by_role("region", name="Upper back: the dark one")
    expect(mole.locator("img")).to_have_count(2)
    expect(mole).to_contain_text("2 pictures")
    # pictures are compared, not scores
    for word in ("%", "Suspicious", "Low suspicion", "probability"):
        expect(mole).not_to_contain_text(word)

    page.get_by_role("button", name="Compare two dates").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".pair img")).to_have_count(2)
    expect(dialog).not_to_contain_text("%")
    dialog.get_by_role("slider", name="Later picture on top").fill("100")
    assert dialog.locator(".overlay img").nth(1).evaluate("image => getComputedStyle(image).opacity") == "1"
    for answer, advice in [
        ("Yes", "It changed: see a doctor"),
        ("I cannot tell", "show the spot to a doctor"),
        ("I see no change", "see a doctor whatever this says"),
    ]:
        dialog.get_by_label(answer, exact=True).check()
        expect(dialog.locator(".advice")).to_contain_text(advice)
    dialog.get_by_role("button", name="Close").click()

    with page.expect_download() as started:
        page.get_by_role("button", name="Export to a file").click()
    export = tmp_path / "history.json"
    started.value.save_as(export)
    content = json.loads(export.read_text("utf-8"))
    assert len(content["pictures"]) == 2
    assert not any("probability" in picture or "malignancy" in picture for picture in content["pictures"])

    page.get_by_role("button", name="Delete everything").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Everything was deleted")).to_be_visible()
    assert page.evaluate(DATABASES) == []

    page.set_input_files("#import", export)
    expect(page.get_by_text("2 pictures were imported.")).to_be_visible()
    page.set_input_files("#import", export)  # once more: the same pictures, not twice as many
    expect(mole.locator("img")).to_have_count(2)
    assert mole.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 600
    mole.get_by_role("button", name="Delete the picture").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(mole.locator("img")).to_have_count(2)
    mole.get_by_role("button", name="Delete the picture").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(mole.locator("img")).to_have_count(1)
    assert set(sent) <= {"GET"}


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        '{"format": "aiderm-history", "version": 99, "moles": [], "pictures": []}',
        '{"format": "aiderm-history", "version": 1, "moles": [{"id": 1}], "pictures": []}',
        '{"format": "aiderm-history", "version": 1, "moles": [{"id": "a", "label": "", "site": "neck", "createdAt": 1}],'
        ' "pictures": [{"id": "b", "mole": "a", "takenAt": 1, "decision": "", "model": "",'
        ' "picture": "data:text/html;base64,PGI+"}]}',
    ],
)
def test_what_is_no_export_is_not_imported(page: Page, tmp_path: Path, content: str) -> None:
    page.evaluate("() => { location.hash = 'history'; }")
    (tmp_path / "file.json").write_text(content)
    page.set_input_files("#import", tmp_path / "file.json")
    expect(page.get_by_text("Nothing was imported.")).to_be_visible()
    assert page.evaluate(DATABASES) == []


def test_photographing_again_lays_the_earlier_picture_over_the_live_one(page: Page, plain, assess) -> None:
    keep(page, plain, assess, 60)
    page.get_by_role("link", name="Open the history").click()
    page.get_by_role("button", name="Photograph it again").click()
    page.get_by_role("button", name="Yes, the lens is on").click()
    expect(page.locator("dialog .ghost")).to_be_visible()
    page.get_by_role("slider", name="Earlier picture on top").fill("0")
    assert page.locator("dialog .ghost").evaluate("ghost => getComputedStyle(ghost).opacity") == "0"
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator("#check")).to_be_visible()
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_be_visible()
    # the spot is known
    expect(page.get_by_label("Which spot?").locator("option:checked")).to_have_text("Upper back: the dark one")

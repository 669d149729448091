"""Several photographs of one spot: a common answer, and the result for each photograph."""

from __future__ import annotations

import zipfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect

pytestmark = pytest.mark.browser
Choose = Callable[..., None]
COPY = """async (encoded) => {
  const blob = new Blob([Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))], { type: 'image/png' });
  await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
}"""
KEPT = """async () => {
  const { readAll, shotsOf } = await import(new URL('js/history/store.js', location.href));
  return (await readAll()).pictures.map((picture) => shotsOf(picture).map((shot) => shot.picture.size));
}"""


def test_photographs_of_one_spot_have_one_answer(
    page: Page, plain: Callable[..., bytes], upload: Callable[..., FilePayload], choose: Callable[..., None]
) -> None:
    choose(page, plain(red=40), "first.png")
    page.locator("#assess").click()
    verdict, card = page.locator(".verdict"), page.locator("derm-spot")
    expect(verdict).to_have_attribute("data-decision", "low_suspicion")
    expect(card).to_be_hidden()

    page.get_by_role("button", name="Add a photograph of the same spot").click()
    dialog = page.get_by_role("dialog", name="Add a photograph of the same spot")
    dialog.locator("input").set_input_files([upload(plain(red=40), "again.png")])
    expect(dialog.get_by_role("alert")).to_have_text("That photograph is already here.")
    # one that is suspicious on its own, and one that the model rejects
    dialog.locator("input").set_input_files([upload(plain(red=230), "b.png"), upload(plain(red=60, blue=220), "c.png")])
    expect(verdict).to_have_attribute("data-decision", "uncertain")
    expect(verdict.locator("h2")).to_be_focused()
    expect(card).to_contain_text("The answer rests on 2 of 3 photographs.")
    expect(card).to_contain_text("The photographs disagree")
    expect(page.locator("derm-scale")).to_contain_text("These pictures: ")
    expect(page.locator("derm-scale")).not_to_contain_text("This picture")
    rows = card.locator("li")
    expect(rows.nth(0)).to_contain_text("On its own, it would mean low suspicion.")
    expect(rows.nth(1)).to_contain_text("On its own, it would not mean low suspicion.")
    expect(rows.nth(2)).to_contain_text("Left out: The picture does not resemble")
    expect(rows.locator(".own").first).to_be_hidden()
    page.locator("input[value=clinical]").check()
    expect(rows.nth(1).locator(".own")).to_have_text("Suspicious, 90.2%")

    # each can be viewed with its own heatmap and figures
    sources = [page.locator(".photo").get_attribute("src")]
    card.get_by_role("button", name="Photograph 2", exact=True).click()
    expect(card.get_by_role("button", name="Photograph 2", exact=True)).to_be_focused()
    sources.append(page.locator(".photo").get_attribute("src"))
    assert len(set(sources)) == 2
    expect(verdict).to_have_attribute("data-decision", "uncertain")

    # a reload restores everything and sends nothing
    answers: list[str] = []
    page.on("response", lambda response: answers.append(response.url) if "/predict" in response.url else None)
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(rows).to_have_count(3)
    expect(verdict).to_have_attribute("data-decision", "uncertain")
    assert answers == []

    card.get_by_role("button", name="Remove photograph 2").click()
    expect(verdict).to_have_attribute("data-decision", "low_suspicion")
    expect(card).to_contain_text("The answer rests on 1 of 2 photographs.")
    card.get_by_role("button", name="Remove photograph 2").click()
    expect(card).to_be_hidden()
    expect(verdict).to_have_attribute("data-decision", "low_suspicion")
    assert ["lesion" in url for url in answers] == [True, False]
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("main")).to_have_attribute("data-state", "empty")


def ask(page: Page) -> None:
    page.get_by_role("button", name="Add a photograph of the same spot").click()
    expect(page.locator("dialog.spot-add")).to_be_visible()


@pytest.mark.ci
def test_photographs_are_pasted_dropped_and_taken(
    page: Page, plain: Callable[..., bytes], choose: Choose, tmp_path: Path
) -> None:
    choose(page, plain(red=40), "first.png")
    page.locator("#assess").click()
    rows, dialog = page.locator("derm-spot li"), page.locator("dialog.spot-add")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page)
    dialog.locator("h2").click()  # moves the focus away from the buttons
    page.evaluate("() => navigator.clipboard.writeText('no picture')")
    page.keyboard.press("Control+v")
    expect(dialog.get_by_role("alert")).to_have_text("There was no picture in that")
    page.evaluate(COPY, b64encode(plain(red=41)).decode())
    page.keyboard.press("Control+v")
    expect(rows).to_have_count(2)

    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "third.png").write_bytes(plain(red=42))
    ask(page)
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 20, "y": 300, "data": data})
    expect(rows).to_have_count(3)

    ask(page)
    dialog.get_by_role("button", name="Take a photograph").click()
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_role("dialog").last.get_by_role("button", name="Close").click()
    expect(dialog).to_be_visible()  # no photograph was taken, so another option can be chosen
    dialog.get_by_role("button", name="Take a photograph").click()
    for step in ("Yes, the lens is on", "Take the picture", "Use this picture"):
        page.get_by_role("button", name=step).click()
    expect(rows).to_have_count(4)
    expect(page.locator("dialog")).to_have_count(0)


@pytest.mark.ci
def test_the_history_keeps_every_photograph_once(
    page: Page, plain: Callable[..., bytes], upload: Callable[..., FilePayload], choose: Choose, tmp_path: Path
) -> None:
    first, second = plain(red=40), plain(red=41, width=500)
    choose(page, first, "first.png")
    page.locator("#assess").click()
    page.get_by_role("radio", name="For clinicians").check()
    page.get_by_role("button", name="Keep, print, check yourself").click()
    page.get_by_role("button", name="Turn on the history").click()
    page.get_by_role("button", name="Keep this picture").click()
    expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()
    ask(page)
    page.locator("dialog input").set_input_files([upload(second, "second.png")])
    page.get_by_role("button", name="Keep these pictures").click()
    expect(page.get_by_text("The pictures are kept on this device.")).to_be_visible()
    sizes = [[len(first), len(second)]]
    assert page.evaluate(KEPT) == sizes  # includes the one that was kept before

    page.get_by_role("link", name="History", exact=True).click()
    expect(page.locator(".mole-head")).to_contain_text("2 pictures")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export to a file").click()
    download.value.save_as(tmp_path / "history.zip")
    with zipfile.ZipFile(tmp_path / "history.zip") as archive:
        assert [archive.read(name) for name in archive.namelist()[1:]] == [first, second]
    page.get_by_role("button", name="Delete everything").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.set_input_files("#import", tmp_path / "history.zip")
    expect(page.get_by_text("2 pictures were imported.")).to_be_focused()
    assert page.evaluate(KEPT) == sizes

    page.get_by_role("button", name="Open the picture of").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('dialog img')].map((image) => image.naturalWidth).join() === '600,500'"
    )
    page.get_by_role("button", name="Assess it again").click()
    expect(page.locator("derm-spot li")).to_have_count(2)
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "low_suspicion")
    page.get_by_role("link", name="History", exact=True).click()
    page.get_by_role("button", name="Delete the picture of").click()
    dialog = page.get_by_role("dialog", name="Delete all photographs of")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The picture was deleted.")).to_be_focused()
    assert page.evaluate(KEPT) == []

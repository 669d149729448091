"""The history on this device: off by default; comparing, exporting, importing and deleting."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

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


def save_export(page: Page, to: Path) -> None:
    with page.expect_download() as started:
        page.get_by_role("button", name="Export to a file").click()
    started.value.save_as(to)
    expect(page.locator("#transfer-said")).to_contain_text("was read back and checked")


# Puts pictures into the history as other versions and browsers would have stored them.
PUT = """async ([name, files]) => {
  const { turnOn, write } = await import(new URL('js/history/store.js', location.href));
  await turnOn();
  const bytes = (encoded) => Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
  const moles = [{ id: name, label: name, site: 'neck', createdAt: 1 }];
  await write({ moles, pictures: files.map(([encoded, type, size], at) => ({
    id: `${name}${at}`, mole: name, takenAt: Date.UTC(2026, at, 2, 12), decision: 'uncertain', model: 'm 1',
    picture: new Blob([bytes(encoded), new Uint8Array(size)], { type }) })) });
  location.hash = 'history';
}"""


def put(page: Page, name: str, *files: tuple[bytes, str], padding: int = 0) -> None:
    encoded = [[base64.b64encode(data).decode(), kind, padding] for data, kind in files]
    page.evaluate(PUT, [name, encoded])
    expect(page.get_by_role("region", name=f"Neck: {name}").locator("img")).to_have_count(len(files))


def delete_everything(page: Page) -> None:
    page.get_by_role("button", name="Delete everything").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Everything was deleted")).to_be_focused()


def test_pictures_without_a_proper_type_come_back(page: Page, plain, tmp_path: Path) -> None:
    kinds = [
        (".jpg", ""),
        (".png", "application/octet-stream"),
        (".bmp", "image/x-ms-bmp"),
        (".tiff", ""),
        (".webp", "image/webp"),
    ]
    put(page, "typed", *((plain(suffix=suffix), kind) for suffix, kind in kinds))
    save_export(page, tmp_path / "history.zip")
    delete_everything(page)
    page.set_input_files("#import", tmp_path / "history.zip")
    expect(page.get_by_text("5 pictures were imported.")).to_be_focused()
    types = page.evaluate(
        """async () => { const { readAll } = await import(new URL('js/history/store.js', location.href));
        return (await readAll()).pictures.map(({ picture }) => picture.type); }"""
    )
    assert types == ["image/jpeg", "image/png", "image/bmp", "image/tiff", "image/webp"]
    # including the TIFF, which this browser cannot display itself
    page.wait_for_function("() => [...document.querySelectorAll('.dates img')].every(({ naturalWidth }) => naturalWidth === 600)")


def test_a_picture_that_cannot_be_read_keeps_no_other_from_going_out(page: Page, plain, tmp_path: Path) -> None:
    page.evaluate(PUT, ["odd", [[base64.b64encode(data).decode(), "image/png", 0] for data in (plain(), b"lost", plain(red=9))]])
    with page.expect_download() as started:
        page.get_by_role("button", name="Export to a file").click()
    said = page.locator("#transfer-said")
    expect(said).to_contain_text("2 pictures were written to the file")
    expect(said).to_contain_text("1 picture can no longer be read on this device and is not in the file: February 2, 2026")
    started.value.save_as(tmp_path / "history.zip")
    delete_everything(page)
    page.set_input_files("#import", tmp_path / "history.zip")
    expect(page.get_by_text("2 pictures were imported.")).to_be_visible()


def test_an_export_that_does_not_read_back_is_not_handed_out(page: Page, plain) -> None:
    small, large = plain(width=120, height=120), plain()
    put(page, "two", (small, "image/png"), (large, "image/png"))
    downloads: list[object] = []
    page.on("download", lambda started: downloads.append(started))
    page.evaluate(  # as if the disk returned other bytes than were written
        """(size) => { const slice = Blob.prototype.slice;
        Blob.prototype.slice = function (from, to, type) {
          return slice.call(this, from, to - from === size ? to - 1 : to, type);
        }; }""",
        len(small),
    )
    page.get_by_role("button", name="Export to a file").click()
    expect(page.locator("#transfer-said")).to_contain_text("none was saved. The pictures are still here.")
    assert downloads == []


@pytest.mark.parametrize("damage", ["changed", "cut off"])
def test_what_is_whole_in_a_damaged_export_is_imported_and_the_rest_named(page: Page, plain, tmp_path: Path, damage: str) -> None:
    pictures = [plain(red=red, suffix=".png") for red in (10, 20, 30)]
    put(page, "three", *((data, "image/png") for data in pictures))
    export = tmp_path / "history.zip"
    save_export(page, export)
    delete_everything(page)
    data = bytearray(export.read_bytes())
    middle = data.index(pictures[-1]) + len(pictures[-1]) // 2
    if damage == "changed":
        data[middle] ^= 0xFF
    else:
        del data[middle:]
    export.write_bytes(data)
    page.set_input_files("#import", export)
    expect(page.locator(".view [role=status]").first).to_contain_text("2 pictures were imported.")
    expect(page.locator(".view [role=status]").first).to_contain_text(
        "1 picture in the file is damaged and was left out: March 2, 2026"
    )
    expect(page.get_by_role("region", name="Neck: three").locator("img")).to_have_count(2)


def test_an_export_that_another_program_packed_anew_is_read(page: Page, plain, tmp_path: Path) -> None:
    put(page, "packed", (plain(), "image/png"))
    save_export(page, tmp_path / "history.zip")
    with (
        zipfile.ZipFile(tmp_path / "history.zip") as old,
        zipfile.ZipFile(tmp_path / "new.zip", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    delete_everything(page)
    page.set_input_files("#import", tmp_path / "new.zip")
    expect(page.get_by_text("1 picture was imported.")).to_be_visible()


def test_an_export_of_the_first_version_is_read(page: Page, plain, tmp_path: Path) -> None:
    mole = {"id": "a", "label": "", "site": "neck", "createdAt": 1}
    address = "data:image/x-ms-bmp;base64," + base64.b64encode(plain(suffix=".bmp")).decode()
    picture = {"id": "b", "mole": "a", "takenAt": 1, "decision": "uncertain", "model": "m 1", "picture": address}
    content = {
        "format": "aiderm-history",
        "version": 1,
        "moles": [mole],
        "pictures": [picture, {**picture, "id": "c", "picture": "x"}],
    }
    (tmp_path / "history.json").write_text(json.dumps(content))
    page.evaluate("() => { location.hash = 'history'; }")
    page.set_input_files("#import", tmp_path / "history.json")
    expect(page.get_by_text("1 picture was imported. 1 picture in the file is damaged")).to_be_visible()


KINDS = {"jpeg": {"quality": 100}, "png": {"compress_level": 0}, "webp": {"lossless": True, "quality": 0, "method": 0}, "bmp": {},
         "tiff": {}, "gif": {}}  # fmt: skip
FETCH = "async (type) => { (window.files ??= []).push(new Blob([await (await fetch('api/' + type)).arrayBuffer()], { type })); }"
PUT_MANY = """async (count) => {
  const { turnOn, write } = await import(new URL('js/history/store.js', location.href));
  await turnOn();
  const moles = [{ id: 'm', label: 'many', site: 'neck', createdAt: 1 }];
  for (let at = 0; at < count; at += 1) {
    const picture = window.files[at % window.files.length];
    await write({ moles, pictures: [{ id: `p${at}`, mole: "m", takenAt: at + 1, decision: "uncertain", model: "m", picture }] });
  }
  location.hash = 'history';
}"""
DIGESTS = """async () => {
  const { readAll } = await import(new URL('js/history/store.js', location.href));
  const all = [];
  for (const { id, takenAt, picture } of (await readAll()).pictures) {
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await picture.arrayBuffer()));
    all.push([id, takenAt, picture.type, picture.size, [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('')]);
  }
  return all;
}"""


def answer_with(file: Path) -> Callable[[Route], None]:
    return lambda route: route.fulfill(path=file)


@pytest.mark.soak
def test_500_megabytes_of_every_type_go_out_and_come_back(page: Page, tmp_path: Path) -> None:
    """Uses real files of 8 to 15 MB; afterwards each has the same bytes, type and day as before."""
    noise = np.random.default_rng(0).integers(0, 256, (2000, 1700, 3), np.uint8)
    wide = np.random.default_rng(1).integers(0, 256, (3200, 3000), np.uint8)
    for kind, options in KINDS.items():
        file = tmp_path / f"noise.{kind}"
        Image.fromarray(wide if kind == "gif" else noise).save(file, **options)
        page.route(f"**/api/image/{kind}", answer_with(file))
        page.evaluate(FETCH, f"image/{kind}")
    page.evaluate(PUT_MANY, 54)
    expect(page.get_by_role("region", name="Neck: many").locator("img")).to_have_count(54, timeout=300_000)
    before = page.evaluate(DIGESTS)
    assert sum(size for *_, size, _ in before) > 500_000_000
    assert {kind for _, _, kind, *_ in before} == {f"image/{kind}" for kind in KINDS}
    with page.expect_download(timeout=300_000) as started:
        page.get_by_role("button", name="Export to a file").click()
    started.value.save_as(tmp_path / "history.zip")
    expect(page.locator("#transfer-said")).to_contain_text("54 pictures were written to the file", timeout=300_000)
    page.evaluate("() => { window.files = []; }")
    delete_everything(page)
    page.set_input_files("#import", tmp_path / "history.zip")
    expect(page.get_by_text("54 pictures were imported.")).to_be_visible(timeout=300_000)
    assert page.evaluate(DIGESTS) == before


@pytest.mark.parametrize(
    "blocked", ["undefined", "{ databases: () => Promise.reject(new Error()), open: () => { throw new Error(); } }"]
)
def test_blocked_storage_is_said(new_page, service, plain, assess, blocked: str) -> None:
    page = new_page(service.url, load=False)
    page.add_init_script(f"Object.defineProperty(window, 'indexedDB', {{ value: {blocked} }});")
    page.goto(service.url)
    assess(page, plain(red=230))
    expect(page.locator(".keep")).to_contain_text("lets the page keep nothing")
    page.evaluate("() => { location.hash = 'history'; }")
    expect(page.locator(".view .notice")).to_contain_text("lets the page keep nothing")


def test_the_focus_stays_on_the_page_after_keeping_and_deleting(page: Page, plain, assess) -> None:
    keep(page, plain, assess, 60)
    expect(page.get_by_role("link", name="Open the history")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete the picture").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The picture was deleted.")).to_be_focused()


def test_the_day_is_set_when_a_picture_is_kept(page: Page, plain, assess) -> None:
    assess(page, plain(red=60))
    page.get_by_role("button", name="Turn on the history").click()
    day = page.locator(".keep").get_by_label("Date of the picture")
    assert day.input_value() == page.evaluate("() => new Date().toLocaleDateString('sv')")  # today is the default
    for wrong in ("", "2999-01-01"):
        day.fill(wrong)
        page.get_by_role("button", name="Keep this picture").click()
        expect(day).to_be_focused()  # the browser shows what is allowed
    page.get_by_label("Where on the body?").select_option("neck")
    day.fill("2023-05-17")
    page.get_by_role("button", name="Keep this picture").click()
    expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()
    page.get_by_role("link", name="Open the history").click()
    expect(page.get_by_role("region", name="Neck").locator("time")).to_have_text("May 17, 2023")


def test_nothing_is_kept_until_the_history_is_turned_on(page: Page, plain, assess) -> None:
    assess(page, plain(red=230))
    expect(page.get_by_role("button", name="Turn on the history")).to_be_visible()
    page.get_by_role("link", name="History").first.click()
    expect(page.get_by_role("heading", name="The history is off")).to_be_visible()
    assert set(page.evaluate(DATABASES)) <= {"aiderm-queue"}


def test_keep_compare_export_delete_import(page: Page, plain, assess, tmp_path: Path) -> None:
    sent: list[str] = []
    keep(page, plain, assess, 60)
    keep(page, plain, assess, 230, new=False)
    page.on("request", lambda request: sent.append(request.method))
    page.get_by_role("link", name="Open the history").click()
    expect(page.get_by_role("heading", level=1, name="History")).to_be_focused()
    mole = page.get_by_role("region", name="Upper back: the dark one")
    expect(mole.locator("img")).to_have_count(2)
    expect(mole).to_contain_text("2 pictures")
    # pictures are compared, not scores
    for word in ("%", "Suspicious", "Low suspicion", "probability"):
        expect(mole).not_to_contain_text(word)

    page.get_by_role("button", name="Compare two dates").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".pair img")).to_have_count(2)
    for part in (".pair", ".measure"):  # nothing is measured without a request
        expect(dialog.locator(part)).not_to_contain_text("%")
    dialog.get_by_role("slider", name="Later picture on top").fill("100")
    assert dialog.locator(".overlay .layer").evaluate("layer => getComputedStyle(layer).opacity") == "1"
    for answer, advice in [
        ("Yes", "It changed: see a doctor"),
        ("I cannot tell", "show the spot to a doctor"),
        ("I see no change", "see a doctor whatever this says"),
    ]:
        dialog.get_by_label(answer, exact=True).check()
        expect(dialog.locator(".advice")).to_contain_text(advice)
    dialog.get_by_role("button", name="Close").click()

    export = tmp_path / "history.zip"
    save_export(page, export)
    with zipfile.ZipFile(export) as archive:
        assert archive.testzip() is None
        content = json.loads(archive.read("history.json"))
        assert {Path(name).suffix for name in archive.namelist()} == {".json", ".png"}
    assert len(content["pictures"]) == 2
    assert not any("probability" in picture or "malignancy" in picture for picture in content["pictures"])

    page.get_by_role("button", name="Delete everything").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Everything was deleted")).to_be_visible()
    assert set(page.evaluate(DATABASES)) <= {"aiderm-queue"}

    page.set_input_files("#import", export)
    expect(page.get_by_text("2 pictures were imported.")).to_be_visible()
    page.set_input_files("#import", export)  # importing again adds no duplicates
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
    assert set(page.evaluate(DATABASES)) <= {"aiderm-queue"}


def test_photographing_again_lays_the_earlier_picture_over_the_live_one(page: Page, plain, assess) -> None:
    keep(page, plain, assess, 60)
    page.get_by_role("link", name="Open the history").click()
    page.get_by_role("button", name="Photograph it again").click()
    page.get_by_role("button", name="Yes, the lens is on").click()
    expect(page.locator("dialog .ghost")).to_be_visible()
    page.get_by_role("slider", name="Earlier picture on top").fill("0")
    assert page.locator("dialog .ghost").evaluate("ghost => getComputedStyle(ghost).opacity") == "0"
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_role("button", name="Use this picture").click()
    expect(page.locator("#check")).to_be_visible()
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_be_visible()
    # the spot is already selected
    expect(page.get_by_label("Which spot?").locator("option:checked")).to_have_text("Upper back: the dark one")

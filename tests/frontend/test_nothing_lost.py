"""A queue of pictures survives a reload, navigation, a network outage, a server that stops, and a sleeping phone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, Route, expect
from tests.machines import eventually
from tests.servers import Server, free_port

pytestmark = [pytest.mark.browser, pytest.mark.ci]
COUNT = 50
RESULTS = ".queue li[data-state=result]"
DATABASES = "async () => (await indexedDB.databases()).map(({ name }) => name)"
READY = "html[data-ready]"
KEPT = """async () => {
  if (!(await indexedDB.databases()).some(({ name }) => name === 'aiderm-queue')) return 0;
  return new Promise((resolve) => {
    const request = indexedDB.open('aiderm-queue');
    request.onsuccess = () => {
      const counted = request.result.transaction('pictures').objectStore('pictures').count();
      counted.onsuccess = () => { request.result.close(); resolve(counted.result); };
    };
  });
}"""

Plain = Callable[..., bytes]
Upload = Callable[..., FilePayload]


@pytest.fixture(scope="module")
def pictures(plain: Plain, upload: Upload) -> list[FilePayload]:
    """Pictures with different answers: each has its own position, name and shade of red."""
    return [upload(plain(red=20 + 4 * at, width=120, height=120), f"{at:02d}.png") for at in range(COUNT)]


@pytest.fixture
def seen(page: Page) -> list[int]:
    """The statuses of the server's responses so far."""
    answers: list[int] = []
    page.on("response", lambda response: answers.append(response.status) if "/predict" in response.url else None)
    page.on("dialog", lambda dialog: dialog.accept())
    return answers


def start(page: Page, pictures: list[FilePayload], answered: int) -> None:
    """Sends the pictures and waits until some are answered."""
    page.set_input_files("#choose", pictures)
    page.get_by_role("button", name=f"Assess all {len(pictures)} pictures").click()
    page.wait_for_function("([selector, count]) => document.querySelectorAll(selector).length >= count", arg=[RESULTS, answered])


def all_there(page: Page, pictures: list[FilePayload]) -> None:
    """Asserts that each picture has one answer, for its own pixels."""
    expect(page.locator(RESULTS)).to_have_count(len(pictures), timeout=60_000)
    expect(page.locator("#run-bar")).to_be_hidden()
    names = Counter(page.locator(".queue-name").all_inner_texts())
    assert names == Counter(str(picture["name"]) for picture in pictures)
    decisions = dict(
        page.locator(".queue li").evaluate_all(
            "rows => rows.map((row) => [row.querySelector('.queue-name').textContent, row.dataset.decision])"
        )
    )
    for at, picture in enumerate(pictures):
        red = (20 + 4 * at) / 255
        expected = "low_suspicion" if red < 0.4 else "uncertain" if red <= 0.6 else "suspicious"
        assert decisions[str(picture["name"])] == expected


def test_a_reload_in_the_middle_goes_on_where_it_was(page: Page, seen: list[int], pictures: list[FilePayload]) -> None:
    start(page, pictures, 8)
    before = page.locator(RESULTS).count()
    page.reload()
    page.wait_for_selector(READY)
    all_there(page, pictures)
    expect(page.locator("#kept")).to_contain_text("this browser keeps pictures and answers on your device, encrypted")
    # answered pictures are not sent again, except those in flight or answered at the last moment
    assert len(seen) <= COUNT + COUNT // 5
    # without this tab's key, none of it can be read on the device
    rows = page.evaluate(
        """async () => {
          const database = await new Promise((resolve) => { const request = indexedDB.open('aiderm-queue');
            request.onsuccess = () => resolve(request.result); });
          const read = (name) => new Promise((resolve) => {
            const request = database.transaction(name).objectStore(name).getAll();
            request.onsuccess = () => resolve(request.result.map(({ data }) => [...new Uint8Array(data)])); });
          const all = [...await read('pictures'), ...await read('states')];
          database.close();
          return all;
        }"""
    )
    assert len(rows) == 2 * COUNT + 1
    for row in rows:
        for clear in (b"PNG", b".png", b"suspicious", b"malignancy"):
            assert clear not in bytes(row)
    # a second reload restores everything and sends nothing
    count = len(seen)
    page.reload()
    page.wait_for_selector(READY)
    all_there(page, pictures)
    assert len(seen) == count
    assert before <= COUNT
    page.get_by_role("button", name="Remove all").click()
    page.wait_for_function("() => sessionStorage.length === 0")
    eventually(lambda: not page.evaluate(DATABASES), 20, "nothing is left in the browser")
    page.reload()
    page.wait_for_selector(READY)
    expect(page.locator("main")).to_have_attribute("data-state", "empty")


def test_back_and_forth_brings_them_back(page: Page, service: Server, seen: list[int], pictures: list[FilePayload]) -> None:
    start(page, pictures, 5)
    page.goto(f"{service.url}/favicon.svg")
    page.go_back()
    page.wait_for_selector(READY)
    all_there(page, pictures)
    assert seen.count(200) <= COUNT + COUNT // 5


def test_pictures_added_after_a_reload_are_kept_beside_the_others(
    page: Page, seen: list[int], pictures: list[FilePayload]
) -> None:
    """This holds for any random tab id, even with slashes, which base64 may contain."""
    page.evaluate("() => sessionStorage.setItem('aiderm-tab', JSON.stringify({id: 'a/9/c', key: btoa('k'.repeat(32))}))")
    for count in (2, 4, 6):
        page.set_input_files("#choose", pictures[count - 2 : count])
        expect(page.locator(".queue li")).to_have_count(count)
        eventually(lambda count=count: page.evaluate(KEPT) == count, 20, "the pictures are kept")
        page.reload()
        page.wait_for_selector(READY)
        expect(page.locator(".queue-name")).to_have_text([str(picture["name"]) for picture in pictures[:count]])
    assert not seen


def test_what_happens_before_they_are_back_does_not_wipe_them(page: Page, seen: list[int], plain: Plain, upload: Upload) -> None:
    """The queue is empty until everything is read; until then a ticked box or a sleeping phone must not write anything."""
    page.set_input_files("#choose", [upload(plain(red=230), "a.png"), upload(plain(red=40), "b.png")])
    eventually(lambda: page.evaluate(KEPT) == 2, 20, "the pictures are kept")
    page.add_init_script(
        """const read = crypto.subtle.importKey.bind(crypto.subtle);
        crypto.subtle.importKey = async (...given) => {
          Object.defineProperty(document, 'hidden', { value: true, configurable: true });
          for (const type of ['change', 'visibilitychange']) document.dispatchEvent(new Event(type));
          delete document.hidden;
          await new Promise((resolve) => setTimeout(resolve, 500));
          return read(...given);
        };"""
    )
    for _ in range(2):
        page.reload()
        page.wait_for_selector(READY)
        expect(page.locator(".queue-name")).to_have_text(["a.png", "b.png"])
    assert page.evaluate(KEPT) == 2


def test_what_was_said_of_a_picture_comes_back(page: Page, seen: list[int], plain: Plain, upload: Upload) -> None:
    """A single picture is kept like many: its answer, ticked boxes, refused files, and its crop."""
    page.set_input_files("#choose", [upload(plain(red=230), "a.png"), upload(b"%PDF", "b.pdf", "application/pdf")])
    page.locator("#edit").click()
    expect(page.locator("dialog[open] :focus")).to_be_visible()
    page.keyboard.press("-")
    page.get_by_role("button", name="Use this").click()
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")
    page.locator(".abcde input").nth(1).check()
    width = page.locator(".photo").evaluate("image => image.naturalWidth")
    assert width < 450
    request = page.locator("derm-findings .facts code").evaluate("code => code.textContent")
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector(READY)
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")
    assert page.locator("derm-findings .facts code").evaluate("code => code.textContent") == request
    assert page.locator(".photo").evaluate("image => image.decode().then(() => image.naturalWidth)") == width
    expect(page.locator(".abcde input").nth(1)).to_be_checked()
    expect(page.locator(".queue li").filter(has_text="b.pdf")).to_contain_text("Cannot be sent")
    assert seen == [200]


def test_without_a_network_the_run_waits(page: Page, seen: list[int], pictures: list[FilePayload]) -> None:
    start(page, pictures, 5)
    page.context.set_offline(True)
    expect(page.locator(".run")).to_contain_text(["The server cannot be reached. Nothing is lost", ""])
    expect(page.locator("#status")).to_contain_text("Nothing is lost")
    assert page.locator(".queue li:is([data-state=problem], [data-state=refused])").count() == 0
    page.context.set_offline(False)
    all_there(page, pictures)
    assert seen.count(200) == COUNT


def test_a_server_that_stops_is_waited_for(
    new_page, start_service, make_bundle, tmp_path: Path, pictures: list[FilePayload]
) -> None:
    make_bundle(tmp_path / "models")
    port = free_port()
    sent: list[int] = []
    with start_service(tmp_path / "models", tmp_path / "log", port=port) as service:
        page = new_page(service.url)
        page.on("response", lambda response: sent.append(response.status) if "/predict" in response.url else None)
        start(page, pictures, 5)
        service.stop()
        expect(page.locator(".run")).to_contain_text(["The server cannot be reached. Nothing is lost", ""])
    with start_service(tmp_path / "models", tmp_path / "log", port=port):
        all_there(page, pictures)
    assert sent.count(200) <= COUNT + 1


def test_a_page_that_sleeps_wakes_with_all_of_it(page: Page, seen: list[int], pictures: list[FilePayload]) -> None:
    session = page.context.new_cdp_session(page)
    held: list[Route] = []
    start(page, pictures, 5)
    page.route("**/api/predict*", lambda route: held.append(route), times=1)  # while asleep, it gets no response
    page.wait_for_timeout(500)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    time.sleep(2)
    for route in held:
        route.abort("connectionaborted")  # as after a lost network
    session.send("Page.setWebLifecycleState", {"state": "active"})
    all_there(page, pictures)
    assert seen.count(200) <= COUNT


def test_others_cannot_read_what_a_closed_tab_left(new_page, service: Server, plain: Plain, upload: Upload) -> None:
    page = new_page(service.url)
    page.set_input_files("#choose", [upload(plain(red=230), "a.png"), upload(plain(red=40), "b.png")])
    eventually(lambda: "aiderm-queue" in page.evaluate(DATABASES), 20, "the pictures are kept")
    page.wait_for_timeout(500)
    other = page.context.new_page()
    other.goto(service.url)
    other.wait_for_selector(READY)
    expect(other.locator("main")).to_have_attribute("data-state", "empty")
    # data older than a day is deleted when anyone opens the page
    age = """async () => { const database = await new Promise((resolve) => { const request = indexedDB.open('aiderm-queue');
        request.onsuccess = () => resolve(request.result); });
      const stores = database.transaction(['pictures', 'states'], 'readwrite');
      let changed = 0;
      for (const name of ['pictures', 'states']) {
        const store = stores.objectStore(name);
        const rows = await new Promise((resolve) => { const request = store.getAll();
          request.onsuccess = () => resolve(request.result); });
        for (const row of rows) { store.put({ ...row, at: row.at - 25 * 3600 * 1000 }); changed += 1; }
      }
      database.close();
      return changed; }"""
    assert page.evaluate(age) >= 5
    other.reload()
    other.wait_for_selector(READY)
    rows = """async () => { const database = await new Promise((resolve) => { const request = indexedDB.open('aiderm-queue');
        request.onsuccess = () => resolve(request.result); });
      const count = await new Promise((resolve) => {
        const request = database.transaction('states').objectStore('states').count();
        request.onsuccess = () => resolve(request.result); });
      database.close();
      return count === 0; }"""
    other.wait_for_function(rows)
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.wait_for_selector(READY)
    expect(page.locator("main")).to_have_attribute("data-state", "empty")


def test_where_nothing_can_be_kept_all_else_works(new_page, service: Server, plain: Plain, assess) -> None:
    page = new_page(service.url, load=False)
    page.add_init_script("Object.defineProperty(window, 'indexedDB', { value: undefined });")
    page.goto(service.url)
    page.wait_for_selector(READY)
    assess(page, plain(red=230))
    expect(page.locator("#kept")).to_be_hidden()
    assert page.evaluate("() => sessionStorage.length") == 0

"""The page can be installed and works offline; the first visit is small and soon usable."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]
PUBLIC = Path(__file__).resolve().parents[2] / "frontend" / "public"
BUDGET = 80_000
CONTROLLED = "() => navigator.serviceWorker.controller !== null"  # then the worker has cached its files


def test_manifest_names_what_there_is() -> None:
    manifest = json.loads((PUBLIC / "manifest.json").read_text("utf-8"))
    assert manifest["display"] == "standalone"
    assert "not a diagnosis" in manifest["description"]
    for icon in manifest["icons"]:
        assert (PUBLIC / icon["src"]).is_file()
    assert {icon["sizes"] for icon in manifest["icons"]} >= {"192x192", "512x512"}


def test_worker_keeps_files_that_there_are_and_all_that_they_import() -> None:
    source = (PUBLIC / "sw.js").read_text("utf-8")
    lists = [source.split(f"const {name} = [")[1].split("];")[0] for name in ("SHELL", "REST")]
    shell = set(re.findall(r'"([^"]+)"', "".join(lists))) - {"./"}
    for name in shell:
        assert (PUBLIC / name).is_file(), name
        if name.endswith(".js"):
            text = (PUBLIC / name).read_text("utf-8")
            for target in re.findall(r'^(?:import|export) .*?from "(\.[^"]+)"|^import "(\.[^"]+)"', text, re.M):
                imported = ((PUBLIC / name).parent / next(filter(None, target))).resolve().relative_to(PUBLIC)
                assert str(imported) in shell, f"{name} imports {imported}"
    markup = (PUBLIC / "index.html").read_text("utf-8")
    assert set(re.findall(r'(?:href|src)="((?:css|js|img|locales)/[^"]+)"', markup)) <= shell


def test_opens_without_a_network_with_the_history_readable(new_page, service, plain, assess) -> None:
    page = new_page(service.url + "?lang=de", service_workers="allow")
    page.wait_for_function(CONTROLLED)
    page.get_by_label("Sprache").select_option("en")
    assess(page, plain(red=230))
    page.get_by_role("button", name="Turn on the history").click()
    page.get_by_role("button", name="Keep this picture").click()
    expect(page.get_by_text("The picture is kept on this device.")).to_be_visible()
    page.context.set_offline(True)
    # After a reload, Chromium 150 still refuses all requests but reports a network again.
    page.add_init_script("Object.defineProperty(navigator, 'onLine', { get: () => false })")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator("#service-notice")).to_contain_text("no network")
    page.get_by_role("navigation").get_by_role("link", name="History").click()
    expect(page.locator(".dates img")).to_have_count(1)
    assert page.locator(".dates img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 600
    page.get_by_role("navigation").get_by_role("link", name="Model").click()
    expect(page.get_by_text("needs a connection to the server").or_(page.get_by_text("cannot be reached")).first).to_be_visible()
    # the worker caches no picture and no answer
    kept = page.evaluate("async () => (await (await caches.open('aiderm-page')).keys()).map(({ url }) => url)")
    assert kept
    assert not [url for url in kept if "/api/" in url or url.startswith("blob:")]


@pytest.mark.parametrize("language", ["en", "ar"])
def test_first_visit_stays_within_its_budget(browser: Browser, service, language: str) -> None:
    """Counts the bytes in the network log until the page is ready for a picture and its worker has cached its files."""
    context = browser.new_context(locale=language)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: dict[str, int] = {}
    names: dict[str, str] = {}
    session.on("Network.requestWillBeSent", lambda event: names.__setitem__(event["requestId"], event["request"]["url"]))
    session.on("Network.loadingFinished", lambda event: sizes.__setitem__(event["requestId"], event["encodedDataLength"]))
    page.goto(service.url)
    page.wait_for_selector("html[data-ready]")
    page.wait_for_function(CONTROLLED)
    loaded = sum(sizes.values())
    assert loaded > 20_000
    # adds the worker's other files; those that the page has already loaded come from the browser's cache
    kept = page.evaluate("async () => (await (await caches.open('aiderm-page')).keys()).map(({ url }) => url)")
    for url in set(kept) - set(names.values()):
        answer = page.request.get(url)
        file = PUBLIC / url.removeprefix(service.url).lstrip("/")
        loaded += len(gzip.compress(file.read_bytes(), 6)) + sum(
            len(name) + len(value) + 4 for name, value in answer.headers.items()
        )
    context.close()
    assert loaded <= BUDGET


def test_nothing_is_found_out_late(browser: Browser, service) -> None:
    """Each round trip counts on a slow phone. benchmarks/page measures time, which means nothing on a busy machine."""
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    before_ready: list[str] = []
    page.on("request", lambda request: before_ready.append(request.url))
    page.goto(service.url)
    page.wait_for_selector("html[data-ready]")
    # a script that the markup does not name is fetched one round trip later
    markup = (PUBLIC / "index.html").read_text("utf-8")
    late = [url for url in before_ready if url.endswith(".js") and url.removeprefix(service.url + "/") not in markup]
    context.close()
    assert late == []


@pytest.mark.parametrize("late", ["js/main.js", "js/check.js"])
def test_a_picture_chosen_before_all_is_loaded_is_not_lost(new_page, service, plain, upload, late: str) -> None:
    page = new_page(service.url, load=False)
    held: list[Route] = []
    page.route(f"**/{late}", lambda route: held.append(route))
    page.goto(service.url, wait_until="commit")
    if late == "js/main.js":
        page.wait_for_selector("#choose", state="attached")
    else:
        page.wait_for_function("() => performance.getEntriesByName('usable').length > 0")
    page.set_input_files("#choose", upload(plain(red=230)))
    assert page.locator("html[data-ready]").count() == 0
    assert held
    for route in held:
        route.continue_()
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")


def test_words_that_break_off_are_asked_for_again(browser: Browser, service) -> None:
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    asked = []

    def break_off_once(route: Route) -> None:  # not by times=1: requests hang if they are on their way when interception ends
        asked.append(route)
        route.continue_() if len(asked) > 1 else route.abort("internetdisconnected")

    page.route("**/locales/en.json", break_off_once)
    page.goto(service.url)
    page.wait_for_selector("html[data-ready]")
    assert len(asked) == 2
    context.close()


def test_says_so_when_its_parts_do_not_load(browser: Browser, service) -> None:
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    page.route("**/js/views.js", lambda route: route.abort())
    page.goto(service.url)
    expect(page.locator("#service-notice")).to_contain_text("could not be loaded")
    context.close()


def test_first_paint_needs_no_script(browser: Browser, service) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(service.url)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".disclaimer")).to_be_visible()
    expect(page.locator(".examples img").first).to_be_visible()
    expect(page.get_by_text("see a doctor whatever this says")).to_be_visible()
    context.close()

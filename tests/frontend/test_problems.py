"""Messages for everything that can go wrong: files refused by the page or by the server, and service failures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from aiderm_api.errors import problems

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "**/api/predict?explain=true"
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200)


def expect_problem(page: Page, title: str) -> None:
    expect(page.locator("main")).to_have_attribute("data-state", "problem")
    expect(page.locator("derm-problem h2")).to_have_text(title)
    expect(page.locator("derm-problem h2")).to_be_focused()
    expect(page.locator(".verdict")).to_have_count(0)


def answer(status: int, body: str | None = None, **headers: str) -> Callable[[Route], None]:
    """Answers in place of the server, as a proxy in front of it would."""
    kind = "application/problem+json" if body and body.startswith("{") else "text/html"
    return lambda route: route.fulfill(status=status, body=body or "<html>nginx</html>", content_type=kind, headers=headers)


# --- before anything is sent -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mime", "size", "title", "says"),
    [
        ("report.pdf", "application/pdf", 100, "This kind of file cannot be assessed", "report.pdf"),
        ("drawing.svg", "image/svg+xml", 100, "This kind of file cannot be assessed", "JPEG, PNG, WebP"),
        ("IMG_1.jpg", "image/jpeg", HEIC, "HEIC and AVIF pictures cannot be assessed", "Most Compatible"),
        ("scan.jpg", "image/jpeg", b"%PDF-1.7\n" + bytes(100), "This kind of file cannot be assessed", "JPEG, PNG, WebP"),
        ("IMG_1.HEIC", "", 100, "HEIC and AVIF pictures cannot be assessed", "Most Compatible"),
        ("lesion.jpg", "image/jpeg", 0, "The file is empty", "no data"),
    ],
)
def test_file_refused_before_it_is_sent(
    page: Page, choose: Callable[..., None], name: str, mime: str, size: int | bytes, title: str, says: str
) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    choose(page, size if isinstance(size, bytes) else bytes(size), name, mime)
    expect_problem(page, title)
    expect(page.locator("derm-problem")).to_contain_text(says)
    expect(page.get_by_text("Choose pictures", exact=True)).to_be_visible()
    assert "POST" not in sent


@pytest.mark.ci
def test_20_megabytes_are_sent_and_more_is_not(page: Page, plain, tmp_path: Path) -> None:
    picture = tmp_path / "lesion.bmp"
    picture.write_bytes(plain(red=230, width=2580, height=2584, suffix=".bmp"))  # 20,000,214 bytes
    page.set_input_files("#choose", picture)
    expect_problem(page, "The file is too large")
    expect(page.locator(".problem-detail")).to_contain_text("Received: 20.1 MB. Allowed: 20 MB.")
    picture.write_bytes(plain(red=230, width=2580, height=2583, suffix=".bmp"))  # 19,992,474 bytes
    page.set_input_files("#choose", picture)
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.locator(".verdict")).to_be_visible()


def test_file_that_is_gone_when_it_is_read(page: Page, plain, tmp_path: Path) -> None:
    picture = tmp_path / "lesion.jpg"
    picture.write_bytes(plain(suffix=".jpg"))
    page.set_input_files("#choose", picture)
    expect(page.locator("main")).to_have_attribute("data-state", "ready")
    picture.unlink()
    page.get_by_role("button", name="Assess this picture").click()
    expect_problem(page, "The file cannot be read")


# --- refused by the server ---------------------------------------------------------------------------------------


def test_what_the_server_refuses(page: Page, plain, assess) -> None:
    cases = [
        (plain(suffix=".jpg")[:-400], "The picture is incomplete"),
        (b"\xff\xd8\xff\xe0" + bytes(500), None),
        (plain(width=60, height=60), "The picture has too few pixels"),
    ]
    for data, title in cases:
        with page.expect_response(PREDICT) as answered:
            assess(page, data, "lesion.jpg", "image/jpeg")
        problem = answered.value.json()
        assert answered.value.status == problem["status"] >= 400
        if title is None:
            assert problem["code"] in {"undecodable", "truncated"}
            title = page.locator("derm-problem h2").inner_text()
        expect_problem(page, title)
        expect(page.locator(".problem-detail")).to_contain_text(problem["detail"])
        expect(page.locator("derm-problem")).to_contain_text(problem["request_id"])
        expect(page.get_by_role("button", name="Try again")).to_have_count(0)  # the same file would fail again
        expect(page.get_by_role("button", name="Check another picture")).to_be_visible()


@pytest.mark.ci
def test_limits_of_the_server_in_its_own_words(new_page, start_service, make_bundle, tmp_path: Path, plain, assess) -> None:
    make_bundle(tmp_path / "models")
    settings = {"AIDERM_MAX_UPLOAD_BYTES": "30000", "AIDERM_MAX_PIXELS": "200000"}
    noise = np.random.default_rng(0).integers(0, 255, (120, 120, 3), np.uint8)
    with start_service(tmp_path / "models", tmp_path / "log", **settings) as service:
        page = new_page(service.url)
        assess(page, cv2.imencode(".png", noise)[1].tobytes())
        expect_problem(page, "The file is too large")
        assess(page, plain(width=600, height=600))
        expect_problem(page, "The picture has too many pixels")


@pytest.mark.ci
def test_deadline_of_the_server(new_page, start_service, make_bundle, tmp_path: Path, plain, assess) -> None:
    make_bundle(tmp_path / "models")
    with start_service(tmp_path / "models", tmp_path / "log", AIDERM_DEADLINE_SECONDS="0.0001") as service:
        page = new_page(service.url)
        assess(page, plain(width=2500, height=2500))
        expect_problem(page, "The answer took too long")
        expect(page.get_by_role("button", name=re.compile("^Try again"))).to_be_visible()


FOR_PROGRAMS = {"not_acceptable", "malformed_tensors"}  # the page requests no other media type and sends no tensors


def test_every_code_of_the_api_has_words() -> None:
    """Checks English; test_locales checks that no language lacks a string."""

    def codes(kind: type[problems.ProblemError]) -> set[str]:
        return {kind.code}.union(*(codes(below) for below in kind.__subclasses__()))

    known = json.loads((ROOT / "frontend" / "public" / "locales" / "answer" / "en.json").read_text("utf-8"))["problem"]
    assert (codes(problems.ProblemError) | {"unauthorized", "rate_limited", "method_not_allowed"}) - set(known) == FOR_PROGRAMS


@pytest.mark.parametrize("code", ["a_code_of_tomorrow", "internal_error"])
def test_unknown_code_still_shows_the_servers_words(page: Page, plain, assess, code: str) -> None:
    page.route(PREDICT, answer(500, json.dumps({"status": 500, "code": code, "detail": "The flux is low.", "request_id": "r-7"})))
    assess(page, plain())
    expect(page.locator(".problem-detail")).to_contain_text("The flux is low.")
    expect(page.locator("derm-problem")).to_contain_text("r-7")
    expect(page.get_by_role("button", name="Try again")).to_be_enabled()


# --- on the way to the server ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The file is too large"),
        (HTTPStatus.TOO_MANY_REQUESTS, "Too many pictures in a short time"),
        (HTTPStatus.BAD_GATEWAY, "The service is not ready"),
        (HTTPStatus.GATEWAY_TIMEOUT, "The answer took too long"),
        (HTTPStatus.UNAUTHORIZED, "This page may not use the service"),
        (HTTPStatus.IM_A_TEAPOT, "The answer cannot be understood"),
    ],
)
def test_answers_without_a_code(page: Page, plain, assess, status: int, title: str) -> None:
    page.route(PREDICT, answer(status))
    assess(page, plain())
    expect_problem(page, title)


@pytest.mark.parametrize("body", ["<html>welcome</html>", "{}", '{"decision": "fine", "reasons": []}'])
def test_no_answer_is_made_up_from_one_that_cannot_be_read(page: Page, plain, assess, body: str) -> None:
    page.route(PREDICT, answer(200, body))
    assess(page, plain())
    expect_problem(page, "The answer cannot be understood")


@pytest.mark.parametrize("part", ["model", "quality", "image", "region", "novelty", "classes"])
def test_an_answer_that_lacks_a_part_is_none(page: Page, plain, assess, part: str) -> None:
    def without(route: Route) -> None:
        whole = route.fetch()
        route.fulfill(response=whole, json={name: value for name, value in whole.json().items() if name != part})

    page.route(PREDICT, without)
    assess(page, plain(red=230))
    expect_problem(page, "The answer cannot be understood")


def test_retry_waits_as_long_as_the_server_asks(page: Page, plain, assess) -> None:
    body = {"status": 503, "code": "overloaded", "detail": "Too many uploads at once.", "request_id": "r-8"}
    page.route(PREDICT, answer(503, json.dumps(body), **{"Retry-After": "2"}), times=1)
    assess(page, plain(red=230))
    expect_problem(page, "The service is busy")
    button = page.get_by_role("button", name=re.compile("^Try again"))
    expect(button).to_have_text(re.compile(r"Try again in [12] s"))
    expect(button).to_have_attribute("aria-disabled", "true")
    button.click(force=True)  # too early: nothing happens
    expect(page.locator("main")).to_have_attribute("data-state", "problem")
    expect(button).to_have_text("Try again")
    button.click()
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")


def test_service_without_a_model_then_gone(new_page, start_service, tmp_path, plain, assess, choose) -> None:
    (tmp_path / "models").mkdir()
    with start_service(tmp_path / "models", tmp_path / "log") as service:
        page = new_page(service.url)
        expect(page.locator("derm-service")).to_have_attribute("state", "unavailable")
        expect(page.locator("#service-notice")).to_contain_text("not ready")
        assess(page, plain())
        expect_problem(page, "The service is not ready")
        expect(page.get_by_role("button", name=re.compile("^Try again"))).to_be_visible()

        service.stop()
        assess(page, plain())
        expect_problem(page, "The service cannot be reached")
        expect(page.locator("derm-service")).to_contain_text("cannot be reached")
        expect(page.get_by_role("button", name="Try again")).to_be_enabled()


def test_parts_that_cannot_be_loaded_are_told_of(browser: Browser, service, plain, choose) -> None:
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    page.route("**/js/answer/verdict.js", lambda route: route.abort())
    page.goto(service.url)
    page.wait_for_selector("html[data-ready]")
    choose(page, plain())
    expect(page.locator("#service-notice")).to_contain_text("could not be loaded")
    expect(page.locator("#status")).to_contain_text("could not be loaded")
    context.close()


def test_page_recovers_when_the_service_comes_back(new_page, service, plain, choose) -> None:
    page = new_page(service.url, load=False)
    down = {"on": True}
    page.route("**/api/**", lambda route: route.abort("connectionrefused") if down["on"] else route.fallback())
    page.goto(service.url)
    expect(page.locator("#service-notice")).to_be_visible()
    choose(page, plain(red=230))
    page.get_by_role("button", name="Assess this picture").click()
    expect_problem(page, "The service cannot be reached")
    down["on"] = False
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.locator("#service-notice")).to_be_hidden()

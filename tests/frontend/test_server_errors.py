"""Every error message, for errors that the real API returns through the real nginx, with small limits."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, Response, Route, expect

from aiderm_api.auth.keys import KeyFile, Rate, new_key
from aiderm_api.errors import problems

pytestmark = [pytest.mark.browser, pytest.mark.ci]
ROOT = Path(__file__).resolve().parents[2]
WORDS = json.loads((ROOT / "frontend" / "public" / "locales" / "answer" / "en.json").read_text("utf-8"))["problem"]
PREDICT = "**/api/predict?explain=true"
MAX_BYTES = 60_000
LIMITS = {
    "AIDERM_MAX_UPLOAD_BYTES": str(MAX_BYTES),
    "AIDERM_BATCH_MAX_BYTES": str(MAX_BYTES),
    "AIDERM_MAX_INFLIGHT_BYTES": str(MAX_BYTES),
    "AIDERM_MAX_PIXELS": "300000",
}
# The page never shows these: the client has hung up, no browser sends such requests, or the page is on this site and host.
NOT_SHOWN = {"client_closed_request", "malformed_request", "headers_too_large", "request_timeout", "cross_site", "unknown_host"}
NOT_SHOWN |= {"not_acceptable", "malformed_tensors"}  # the page requests no other media type and sends no tensors
# Makes the model fail on every picture after it has passed its self-test, as a broken graph would.
FAILING = """import sys
if sys.argv[:1] == ["-m"]:
    import aiderm_api.serving.service as service
    def fail(*_, **__):
        raise RuntimeError("the graph is broken")
    service.assess = fail
"""


@dataclass
class Fronts:
    """Addresses of several nginx servers, each with another key, limit or API."""

    plain: str
    without_key: str
    slow_key: str
    slow_address: str
    without_api: str
    late: str
    failing: str
    api: int
    key: str


@pytest.fixture(scope="module")
def fronts(make_bundle, start_service, start_nginx, tmp_path_factory) -> Iterator[Fronts]:
    folder = tmp_path_factory.mktemp("errors")
    make_bundle(folder / "models")
    page, key = new_key("page", rate="unlimited")
    slow, slow_key = new_key("slow", rate=Rate(per_second=0.01, burst=1))
    (folder / "keys.json").write_text(KeyFile(keys=[page, slow]).model_dump_json())
    (folder / "keys.json").chmod(0o600)
    (folder / "failing").mkdir()
    (folder / "failing" / "sitecustomize.py").write_text(FAILING)
    path = os.pathsep.join([str(folder / "failing"), *filter(None, sys.path)])
    with ExitStack() as stack:

        def api(name: str, **settings: str) -> int:
            settings["AIDERM_FRONTEND_DIR"] = ""
            return stack.enter_context(start_service(folder / "models", folder / f"{name}.log", **settings)).port

        def front(name: str, port: int, **options: object) -> str:
            return stack.enter_context(start_nginx(folder / name, port, **options)).url

        port = api("api", AIDERM_KEYS_FILE=str(folder / "keys.json"), **LIMITS)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            nobody = probe.getsockname()[1]
        yield Fronts(
            plain=front("plain", port, key=key),
            without_key=front("without-key", port),
            slow_key=front("slow-key", port, key=slow_key),
            slow_address=front("slow-address", port, key=key, rate="1r/m", burst=1),
            without_api=front("without-api", nobody),
            late=front("late", api("late", AIDERM_DEADLINE_SECONDS="0.0001")),
            failing=front("failing", api("failing", PYTHONPATH=path)),
            api=port,
            key=key,
        )


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


def noise(side: int) -> bytes:
    """A picture whose file is about as large as its pixels."""
    return encoded(".png", np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8))


def shown(page: Page, answered: Response, code: str, *, again: bool) -> None:
    """Asserts that the page shows the problem that the server has just returned."""
    body = answered.json()
    assert (answered.status, body["status"], body["code"]) == (body["status"], answered.status, code)
    assert answered.headers["content-type"].startswith("application/problem+json")
    problem = page.locator("derm-problem")
    expect(problem.get_by_role("heading", name=WORDS[code]["title"], exact=True)).to_be_focused()
    expect(problem).to_contain_text(WORDS[code]["text"])
    expect(problem).to_contain_text(body["detail"])
    expect(problem).to_contain_text(body["request_id"])
    expect(page.locator(".verdict")).to_have_count(0)
    button = problem.get_by_role("button", name=re.compile("^Try again"))
    expect(button).to_have_count(1 if again else 0)
    if "retry_after" in body:
        assert answered.headers["retry-after"] == str(body["retry_after"])
        expect(button).to_have_text(re.compile(r"^Try again( in [0-9,]+ s)?$"))


def changed(**overrides: object) -> Callable[[Route], None]:
    """Changes the page's request on its way to the server, as an intermediary might."""
    return lambda route: route.continue_(**overrides)


FORM = {"content-type": "multipart/form-data; boundary=b"}


def part_of(file: bytes) -> bytes:
    """A form with one file."""
    return b'--b\r\nContent-Disposition: form-data; name="file"; filename="picture"\r\n\r\n' + file + b"\r\n--b--\r\n"


HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200)
# The chosen file, changes to the request, and whether the same picture may be sent again.
REFUSED: dict[str, tuple[Callable[..., bytes], dict[str, object] | None, bool]] = {
    # the page itself would not send this file
    "unsupported_type": (lambda plain: plain(), {"headers": FORM, "post_data": part_of(HEIC)}, False),
    "undecodable": (lambda plain: encoded(".tiff", np.ones((110, 110), np.float32)), None, False),
    "truncated": (lambda plain: plain(suffix=".jpg")[:-400], None, False),
    "too_small": (lambda plain: plain(width=60, height=60), None, False),
    "too_many_pixels": (lambda plain: plain(width=600, height=600), None, False),
    "too_large": (lambda plain: noise(180), None, False),
    "empty_file": (lambda plain: plain(), {"headers": FORM, "post_data": part_of(b"")}, False),
    "malformed_multipart": (lambda plain: plain(), {"headers": FORM, "post_data": b"--b\r\nno header"}, True),
    "missing_file": (lambda plain: plain(), {"headers": FORM, "post_data": b"--b--\r\n"}, True),
    "invalid_parameter": (lambda plain: plain(), {"url": "/api/predict?explain=perhaps"}, True),
    "unknown_model": (lambda plain: plain(), {"url": "/api/predict?model=moles"}, True),
    "not_found": (lambda plain: plain(), {"url": "/api/predicted"}, True),
    "method_not_allowed": (lambda plain: plain(), {"method": "PUT"}, False),
}
OTHERWISE = {"unauthorized", "rate_limited", "overloaded", "no_model", "deadline", "internal_error"}


def test_every_code_of_the_api_is_met_here() -> None:
    def codes(kind: type[problems.ProblemError]) -> set[str]:
        return {kind.code}.union(*(codes(below) for below in kind.__subclasses__()))

    assert codes(problems.ProblemError) | {"method_not_allowed"} == set(REFUSED) | OTHERWISE | NOT_SHOWN


def test_requests_that_the_api_refuses(new_page, fronts: Fronts, plain, assess) -> None:
    page = new_page(fronts.plain)
    for code, (content, change, again) in REFUSED.items():
        if change is not None:
            url = {"url": fronts.plain + str(change["url"])} if "url" in change else {}
            page.route(PREDICT, changed(**(change | url)), times=1)
        with page.expect_response("**/api/predict*") as answered:
            assess(page, content(plain), "lesion.png")
        shown(page, answered.value, code, again=again)
    assess(page, plain(red=230))
    expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")


def refused(page: Page, assess, picture: bytes, code: str, *, again: bool) -> Response:
    """Sends a picture that the server refuses; returns the response once the page shows the problem."""
    with page.expect_response(PREDICT) as answered:
        assess(page, picture)
    shown(page, answered.value, code, again=again)
    return answered.value


def test_a_page_whose_key_is_missing(new_page, fronts: Fronts, plain, assess) -> None:
    page = new_page(fronts.without_key)
    assert refused(page, assess, plain(), "unauthorized", again=False).status == 401
    page.get_by_role("link", name="Model").click()
    expect(page.locator(".view")).to_contain_text(WORDS["unauthorized"]["title"])


@pytest.mark.parametrize("limit", ["slow_key", "slow_address"])
def test_more_pictures_than_are_allowed(new_page, fronts: Fronts, plain, assess, limit: str) -> None:
    """The API counts per key, nginx per address."""
    page = new_page(getattr(fronts, limit))
    for _ in range(3):
        with page.expect_response(PREDICT) as answered:
            assess(page, plain(red=230))
        if answered.value.status == 429:
            break
        expect(page.locator(".verdict")).to_have_attribute("data-decision", "suspicious")
    shown(page, answered.value, "rate_limited", again=True)
    wait = int(answered.value.headers["retry-after"])
    assert wait == (5 if limit == "slow_address" else pytest.approx(100, abs=15))
    expect(page.locator("derm-problem .actions .button")).to_have_attribute("aria-disabled", "true")


def test_more_uploads_than_fit_then_again(new_page, fronts: Fronts, plain, assess) -> None:
    page = new_page(fronts.plain)
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{fronts.api}\r\nAuthorization: Bearer {fronts.key}\r\n"
    head += f"Content-Type: {FORM['content-type']}\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", fronts.api)) as held:  # an unfinished upload that takes nearly all the memory
        held.sendall(f"{head}Content-Length: {MAX_BYTES}\r\n\r\n".encode() + part + bytes(MAX_BYTES - 5_000))
        refused(page, assess, noise(110), "overloaded", again=True)
    button = page.locator("derm-problem .actions .button")
    expect(button).to_have_text("Try again")
    button.click()
    expect(page.locator(".verdict").or_(page.locator("derm-problem h2"))).to_be_visible()
    expect(page.locator(".verdict")).to_be_visible()


def test_no_instance_of_the_api(new_page, fronts: Fronts, plain, assess) -> None:
    page = new_page(fronts.without_api)
    expect(page.locator("#service-notice")).to_be_visible()
    assert refused(page, assess, plain(), "no_model", again=True).headers["retry-after"] == "5"


def test_an_answer_that_does_not_come_in_time(new_page, fronts: Fronts, plain, assess) -> None:
    page = new_page(fronts.late)
    refused(page, assess, plain(), "deadline", again=True)


def test_a_model_that_fails(new_page, fronts: Fronts, plain, assess) -> None:
    page = new_page(fronts.failing)
    assert refused(page, assess, plain(), "internal_error", again=True).status == 500
    expect(page.locator("derm-problem")).not_to_contain_text("graph")  # the cause belongs in the log

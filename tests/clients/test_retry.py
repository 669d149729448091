"""When the Python clients retry, and how long they wait before that."""

from __future__ import annotations

import copy
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_client import ConnectionFailed, InternalError, Overloaded, RateLimited, Retry, TimedOut
from aiderm_client.retry import retry_after_of

HEALTH = httpx.Response(200, json={"status": "ok", "models": {}, "version": "1"})
CODES = {429: "rate_limited", 500: "internal_error", 503: "overloaded", 504: "deadline", 400: "missing_file"}


def problem(status, **headers):
    document = {"title": "No", "status": status, "code": CODES[status], "detail": "Received x; allowed y.", "request_id": "r"}
    return httpx.Response(status, json=document, headers={"content-type": "application/problem+json", **headers})


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that the clients asked for, in seconds; no time passes."""
    waited: list[float] = []

    async def asleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(anyio, "sleep", asleep)
    return waited


@pytest.fixture
def scripted(make_client, pauses):
    """Returns a function that makes a client whose requests get the given outcomes in turn, and the list of these requests."""

    def make(*outcomes, **settings):
        requests: list[httpx.Request] = []

        def handler(request):
            requests.append(request)
            outcome = outcomes[min(len(requests), len(outcomes)) - 1]
            if isinstance(outcome, Exception):
                raise outcome
            return copy.deepcopy(outcome)

        retry = Retry(**({"jitter": lambda: 1.0} | settings))
        return make_client("http://x", transport=httpx.MockTransport(handler), retry=retry), requests

    return make


def test_busy_services_and_broken_connections_are_tried_again(scripted, pauses):
    client, requests = scripted(problem(429), httpx.ConnectError("refused"), problem(504), HEALTH)
    assert client.health().status == "ok"
    assert len(requests) == 4
    assert pauses[1:] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("closed"), httpx.ConnectTimeout("late")])
def test_a_connection_that_breaks_is_tried_again(scripted, error):
    client, requests = scripted(error, HEALTH)
    assert client.health().status == "ok"
    assert len(requests) == 2


def test_the_same_body_is_sent_again(scripted):
    client, requests = scripted(problem(503), problem(400))
    with pytest.raises(Exception, match="missing_file"):
        client.predict(b"the picture")
    first, second = (request.content.replace(request.headers["content-type"].split("=")[1].encode(), b"") for request in requests)
    assert first == second
    assert b"the picture" in first


@pytest.mark.parametrize("status", [400, 500])
def test_other_failures_are_not_tried_again(scripted, status):
    client, requests = scripted(problem(status), HEALTH)
    with pytest.raises(Exception, match=CODES[status]):
        client.health()
    assert len(requests) == 1


def test_a_slow_service_is_not_given_the_same_work_twice(scripted):
    client, requests = scripted(httpx.ReadTimeout("late"), HEALTH)
    with pytest.raises(TimedOut) as error:
        client.health()
    assert isinstance(error.value.__cause__, httpx.ReadTimeout)
    assert len(requests) == 1


def test_attempts_are_counted(scripted):
    client, requests = scripted(problem(503), attempts=3)
    with pytest.raises(Overloaded):
        client.models()
    assert len(requests) == 3
    client, requests = scripted(httpx.ConnectError("refused"), attempts=1)
    with pytest.raises(ConnectionFailed):
        client.models()
    assert len(requests) == 1


def test_retry_after_in_seconds_and_as_a_date(scripted, pauses):
    now = datetime.now(UTC).replace(microsecond=0)
    date = {"date": format_datetime(now, usegmt=True), "retry-after": format_datetime(now + timedelta(seconds=20), usegmt=True)}
    client, _ = scripted(problem(503, **{"retry-after": "7"}), problem(429, **date), HEALTH, first_pause=0.25)
    client.health()
    assert pauses[1:] == [7.25, 20.25]


def test_a_longer_wait_than_allowed_is_left_to_the_caller(scripted, pauses):
    client, requests = scripted(problem(429, **{"retry-after": "61"}), HEALTH)
    with pytest.raises(RateLimited) as error:
        client.health()
    assert error.value.retry_after == 61
    assert len(requests) == 1
    assert pauses == [0]


def test_a_busy_proxy_without_a_problem_document_is_tried_again_too(scripted, pauses):
    client, requests = scripted(httpx.Response(503, text="busy", headers={"retry-after": "3"}), HEALTH, first_pause=0.0)
    assert client.health().status == "ok"
    assert len(requests) == 2
    assert pauses[1:] == [3.0]


def test_an_internal_error_names_its_request(scripted):
    client, _ = scripted(problem(500))
    with pytest.raises(InternalError, match="request r") as error:
        client.health()
    assert error.value.problem.status == 500


@settings(deadline=None)
@given(st.integers(1, 200), st.floats(0, 1), st.none() | st.floats(0, 60))
def test_a_pause_stays_inside_its_bounds(attempt, jitter, asked):
    retry = Retry(attempts=201, jitter=lambda: jitter)
    pause = retry.pause(attempt, asked)
    if asked is None:
        grown = min(8.0, 0.5 * 2.0 ** (attempt - 1))
        assert grown / 2 <= pause <= grown
    else:
        assert asked <= pause <= asked + 0.5


@settings(deadline=None)
@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_any_header_is_read_or_ignored(value):
    seconds = retry_after_of({"retry-after": value, "date": value})
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), (" 12 ", 12), ("-1", None), ("1.5", None), ("soon", None), ("", None), ("Fri, 31 Dec 1999 23:59:59 GMT", 0)],
)
def test_retry_after_values(value, seconds):
    assert retry_after_of({"retry-after": value}) == seconds


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_pause": -1}, {"longest_pause": float("nan")}, {"longest_wait": -0.1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Retry(**wrong)

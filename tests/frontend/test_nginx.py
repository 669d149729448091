"""What can be held against nginx' configuration without nginx; tests/deploy runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aiderm_api.settings import Settings

NGINX = Path(__file__).resolve().parents[2] / "frontend" / "nginx"
TEMPLATE = (NGINX / "default.conf.template").read_text("utf-8")
CODES = {"too_large": 413, "rate_limited": 429, "no_model": 503, "deadline": 504}


def megabytes(location: str, setting: str) -> int:
    block = TEMPLATE.split(f"location {location} {{", 1)[1].split("\n    }", 1)[0]
    match = re.search(rf"{setting} (\d+)m;", block)
    assert match
    return int(match[1]) * 1024 * 1024


@pytest.mark.parametrize(
    ("location", "limit"), [("= /api/predict", "max_upload_bytes"), ("= /api/predict/batch", "batch_max_bytes")]
)
def test_uploads_reach_the_apis_limit_and_stay_in_memory(location: str, limit: str) -> None:
    allowed = Settings.model_fields[limit].default
    through = megabytes(location, "client_max_body_size")
    assert allowed + 64 * 1024 < through < 1.3 * allowed
    # even in chunks, whose framing counts, a body that is let in fits into the buffer
    assert megabytes(location, "client_body_buffer_size") >= 1.25 * through


def test_nothing_is_spooled() -> None:
    assert "proxy_max_temp_file_size 0;" in TEMPLATE
    assert "client_body_in_file_only" not in TEMPLATE


def test_own_failures_are_problems_with_a_code() -> None:
    answers = re.findall(r"return (\d+) '(\{.*\})';", TEMPLATE)
    problems = [(int(status), json.loads(body)) for status, body in answers]
    assert {problem["code"]: status for status, problem in problems} == CODES
    for status, problem in problems:
        assert problem["status"] == status
        assert set(problem) - {"retry_after"} == {"type", "title", "status", "code", "detail", "request_id"}


def test_log_holds_no_query() -> None:
    logged = TEMPLATE.split("log_format", 1)[1].split(";", 1)[0]
    for name in ("$request_uri", "$request ", '$request"', "$args", "$query_string", "$http_referer"):
        assert name not in logged


def test_settings_of_the_template_are_described() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)\}", TEMPLATE))
    described = set(re.findall(r"^#\s+(AIDERM_[A-Z_]+) ", TEMPLATE, re.M))
    assert used == described


def test_headers_are_lines_that_both_servers_read() -> None:
    lines = [
        line for line in (NGINX / "security-headers.conf").read_text("utf-8").splitlines() if line and not line.startswith("#")
    ]
    headers = dict(re.fullmatch(r'add_header ([A-Za-z-]+) "([^"]+)" always;', line).groups() for line in lines)
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "manifest-src": "'self'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert headers["Referrer-Policy"] == "no-referrer"

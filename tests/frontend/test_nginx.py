"""Checks nginx' configuration without nginx; tests/deploy/test_edge.py runs it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from aiderm_api.auth.keys import new_key
from aiderm_api.settings import Settings

NGINX = Path(__file__).resolve().parents[2] / "frontend" / "nginx"
TEMPLATE = (NGINX / "default.conf.template").read_text("utf-8")
CODES = {
    "malformed_request": 400,
    "cross_site": 403,
    "too_large": 413,
    "unknown_host": 421,
    "rate_limited": 429,
    "no_model": 503,
    "deadline": 504,
}


def megabytes(location: str, setting: str) -> int:
    block = TEMPLATE.split(f"location {location} {{", 1)[1].split("\n        }", 1)[0]
    match = re.search(rf"{setting} (\d+)m;", block)
    assert match
    return int(match[1]) * 1024 * 1024


@pytest.mark.parametrize(
    ("location", "limit"),
    [("= /api/predict", "max_upload_bytes"), (r"~ ^/api/(?:predict/(?:batch|lesion)|compare)\z", "batch_max_bytes")],
)
def test_uploads_reach_the_apis_limit_and_stay_in_memory(location: str, limit: str) -> None:
    allowed = Settings.model_fields[limit].default
    through = megabytes(location, "client_max_body_size")
    assert allowed + 64 * 1024 < through < 1.3 * allowed
    # The framing of chunks, here of a kilobyte, counts too; a body that does not fit would be written to a file.
    assert megabytes(location, "client_body_buffer_size") >= 1.05 * through


def test_nothing_is_spooled() -> None:
    assert "proxy_max_temp_file_size 0;" in TEMPLATE
    assert "client_body_in_file_only" not in TEMPLATE


def test_own_failures_are_problems_with_a_code() -> None:
    answers = re.findall(r"return (\d+) '(\{.*\})';", TEMPLATE)
    bodies = [(int(status), json.loads(body)) for status, body in answers]
    problems = [(status, body) for status, body in bodies if "error" not in body]
    inference = [(status, body) for status, body in bodies if "error" in body]  # in the form of the Open Inference Protocol
    assert [status for status, body in inference if list(body) == ["error"]] == [413, 429, 503, 504]
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


def headers(name: str) -> dict[str, str]:
    """Reads a file of headers; asserts that the API's one-process mode could read each line too."""
    lines = [line for line in (NGINX / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]
    matches = [re.fullmatch(r'add_header ([A-Za-z-]+) "([^"]+)" always;', line) for line in lines]
    return dict(match.groups() for match in matches if match or pytest.fail(f"not a line that both read: {lines}"))


def test_policy_of_the_page() -> None:
    sent = headers("security-headers.conf")
    policy = dict(part.strip().split(" ", 1) for part in sent["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "manifest-src": "'self'",
        "worker-src": "'self'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "aiderm-worker",
    }
    assert sent["Referrer-Policy"] == "no-referrer"
    assert sent["Permissions-Policy"].startswith("camera=(self), microphone=(), geolocation=()")
    assert "Access-Control-Allow-Origin" not in sent


def test_parts_of_the_page_may_be_loaded_by_others() -> None:
    """The embeddable element needs it. These assets have fewer headers, which makes the first visit a quarter lighter."""
    sent = headers("asset-headers.conf")
    assert sent["Access-Control-Allow-Origin"] == "*"
    assert sent["X-Content-Type-Options"] == "nosniff"
    folders = re.search(r"location ~ \^/\(([a-z|]+)\)/", TEMPLATE)
    assert folders
    public = NGINX.parent / "public"
    assert set(folders[1].split("|")) == {entry.name for entry in public.iterdir() if entry.is_dir()}


def test_languages_of_the_template_are_those_that_there_are() -> None:
    known = re.search(r"\(\?<aiderm_known>([a-z|]+)\)", TEMPLATE)
    assert known
    assert set(known[1].split("|")) == {file.stem for file in (NGINX.parent / "public" / "locales").glob("*.json")}


def page_key(tmp_path: Path, secret: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "AIDERM_PAGE_KEY_FILE": str(secret), "NGINX_ENVSUBST_OUTPUT_DIR": str(tmp_path)}
    return subprocess.run([NGINX / "15-page-key.sh"], env=environment, capture_output=True, text=True, timeout=30)


def test_the_page_key_goes_from_the_secret_into_the_map(tmp_path: Path) -> None:
    secret, written = tmp_path / "secret", tmp_path / "page-key.map"
    _, key = new_key("page")
    secret.write_text(f"{key}\r\n")
    assert page_key(tmp_path, secret).returncode == 0
    assert written.read_text() == f'default "Bearer {key}";\n'
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert f"include /etc/nginx/conf.d/{written.stem}*.map;" in TEMPLATE
    for nothing in (tmp_path / "missing", Path("/dev/null")):
        assert page_key(tmp_path, nothing).returncode == 0
        assert not written.exists()


@pytest.mark.parametrize("text", ["hunter2", 'aiderm_1"; }', "aiderm_00000000_" + "0" * 63, "aiderm_00000000_" + "0" * 64 + "x"])
def test_a_secret_that_is_no_key_stops_nginx_from_starting(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(text)
    result = page_key(tmp_path, tmp_path / "secret")
    assert result.returncode == 1
    assert "holds no key" in result.stderr
    assert text not in result.stderr
    assert not (tmp_path / "page-key.map").exists()


def test_one_key_is_added_in_one_place() -> None:
    assert TEMPLATE.count("proxy_set_header Authorization $aiderm_authorization;") == 1
    # A location with its own proxy_set_header would inherit none of the others.
    for block in TEMPLATE.split("location ")[1:]:
        assert "proxy_set_header" not in block.split("\n    }", 1)[0]


def test_a_location_with_limits_or_headers_of_its_own_has_them_all() -> None:
    """nginx inherits such directives only if the location has none of the same name."""
    for block in re.split(r"^ +location ", TEMPLATE, flags=re.M)[1:]:
        if "limit_conn " in block:
            assert {"aiderm_requests", "aiderm_all_requests"} <= set(re.findall(r"limit_conn (\w+)", block)), block
            assert {"aiderm_uploads", "aiderm_all_uploads"} <= set(re.findall(r"limit_conn (\w+)", block)), block
        if "add_header " in block:
            assert "add_header Strict-Transport-Security $aiderm_hsts always;" in block, block
            assert "headers.conf;" in block or 'X-Content-Type-Options "nosniff"' in block, block

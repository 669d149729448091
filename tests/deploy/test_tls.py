"""TLS at nginx with a certificate made here: HTTP/2, HSTS, redirects from http, renewal, slow clients."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
from tests.servers import free_port

from aiderm_trainer.data import synthetic

from .conftest import another, readable, run, running

if TYPE_CHECKING:
    from .conftest import Stack

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "frontend" / "nginx" / "16-tls.sh"
HSTS = "max-age=600"


@dataclass(frozen=True)
class Site:
    stack: Stack
    folder: Path
    port: int

    def curl(self, path: str, *arguments: str, plain: bool = False) -> tuple[str, dict[str, str], str]:
        """Runs curl; returns the HTTP version and status as `2 200`, the headers and the body."""
        base = self.stack.url if plain else f"https://localhost:{self.port}"
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", str(self.folder / "fullchain.pem")]
        written = ["--dump-header", "-", "--write-out", "\n%{http_version} %{http_code}"]
        text = run([*command, *written, *arguments, f"{base}{path}"], timeout=60).stdout
        head, _, rest = text.replace("\r\n", "\n").partition("\n\n")
        body, _, outcome = rest.rpartition("\n")
        return outcome, dict(line.lower().split(": ", 1) for line in head.splitlines()[1:]), body


def make_certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    run([*command, *subject, "-keyout", str(folder / "new.key"), "-out", str(folder / "new.pem")])
    (folder / "new.key").rename(folder / "privkey.pem")
    (folder / "new.pem").rename(folder / "fullchain.pem")
    readable(folder)


@pytest.fixture(scope="module")
def site(project: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, acme = tmp_path_factory.mktemp("tls"), tmp_path_factory.mktemp("acme")
    make_certificate(folder)
    challenge = acme / ".well-known" / "acme-challenge"
    challenge.mkdir(parents=True)
    (challenge / "token").write_text("token.thumbprint")
    readable(acme)
    port = free_port()
    stack = another(
        project,
        "tls",
        COMPOSE_FILE="docker-compose.yml:deploy/tls/compose.yml",
        AIDERM_TLS_DIR=str(folder),
        AIDERM_ACME_DIR=str(acme),
        AIDERM_HTTPS_PORT=str(port),
        AIDERM_HSTS=HSTS,
    )
    with running(stack) as started:
        yield Site(started, folder, port)


@pytest.mark.containers
def test_http2_with_hsts_on_every_kind_of_answer(site: Site, tmp_path: Path) -> None:
    picture = tmp_path / "lesion.png"
    cv2.imwrite(str(picture), synthetic.lesion(7, malignant=True, size=300)[..., ::-1])
    for path, arguments, outcome in (
        ("/", [], "2 200"),
        ("/js/main.js", [], "2 200"),
        ("/nothing", [], "2 404"),
        ("/api/health", [], "2 200"),
        ("/api/predict?model=melanoma&name=Jane-Doe", ["--form", f"file=@{picture}"], "2 200"),
        ("/api/predict", ["--form", f"file=@{SCRIPT}"], "2 415"),
    ):
        seen, headers, body = site.curl(path, "--http2", *arguments)
        assert seen == outcome, f"{path}: {body[:500]}"
        assert headers["strict-transport-security"] == HSTS, path
        assert headers["x-content-type-options"] == "nosniff"
    assert site.curl("/", "--http1.1")[0] == "1.1 200"
    log = site.stack.logs("frontend")
    assert '"path":"/api/predict"' in log
    assert "Jane-Doe" not in log
    for line in log.splitlines():
        if line.startswith('{"time"'):
            json.loads(line)


@pytest.mark.containers
def test_old_protocols_and_weak_ciphers_are_refused(site: Site) -> None:
    def handshake(version: ssl.TLSVersion, ciphers: str) -> str | None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers(ciphers)
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as raw, context.wrap_socket(raw) as connection:
            return connection.version()

    assert handshake(ssl.TLSVersion.TLSv1_3, "DEFAULT") == "TLSv1.3"
    assert handshake(ssl.TLSVersion.TLSv1_2, "DEFAULT") == "TLSv1.2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, OSError)):
        handshake(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-SHA:@SECLEVEL=0")


@pytest.mark.containers
def test_http_leads_to_https_and_proves_the_name(site: Site) -> None:
    seen, headers, _ = site.curl("/api/models?a=b", plain=True)
    assert seen == "1.1 308"
    assert headers["location"] == f"https://127.0.0.1:{site.port}/api/models?a=b"
    assert site.curl("/.well-known/acme-challenge/token", plain=True)[2] == "token.thumbprint"
    assert site.curl("/.well-known/acme-challenge/other", plain=True)[0] == "1.1 404"
    for path in ("/.well-known/acme-challenge/../../fullchain.pem", "/.well-known/acme-challenge/%2e%2e/%2e%2e/privkey.pem"):
        assert "-----BEGIN" not in site.curl(path, "--path-as-is", plain=True)[2]
    seen, headers, body = site.curl("/healthz", plain=True)
    assert (seen, body.strip()) == ("1.1 200", "ok")
    assert "strict-transport-security" not in headers


@pytest.mark.containers
def test_a_renewed_certificate_is_taken_over_without_a_restart(site: Site, tmp_path: Path) -> None:
    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", site.port), timeout=10)

    before = served()
    make_certificate(tmp_path)
    renewal = {"RENEWED_LINEAGE": str(tmp_path), "COMPOSE_PROJECT_NAME": site.stack.project}
    run(["deploy/tls/install.sh"], {**site.stack.environment, **renewal})
    renewed = (site.folder / "fullchain.pem").read_text()
    assert renewed != before
    # Right after a reload, old and new processes both accept connections.
    deadline = time.monotonic() + 10
    while served() != renewed:
        assert time.monotonic() < deadline, "the old certificate is still served"
        time.sleep(0.2)
    assert site.stack.inspect("frontend")["RestartCount"] == 0


@pytest.mark.soak
@pytest.mark.containers
def test_clients_that_stall_are_let_go(site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.folder / "fullchain.pem"))

    def stalled(sent: bytes) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", site.port), timeout=60)
        connection = context.wrap_socket(raw, server_hostname="localhost")
        connection.sendall(sent)
        return connection

    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    in_head, in_body = stalled(head), stalled(head + b"Content-Length: 100000\r\n\r\n--b\r\n")
    with in_head, in_body:
        for connection in (in_head, in_body):
            with contextlib.suppress(ConnectionResetError, ssl.SSLError):
                assert connection.recv(4096)[:12] in {b"", b"HTTP/1.1 408"}


def tls_script(folder: Path, written: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "AIDERM_TLS_DIR": str(folder),
        "AIDERM_TLS_TEMPLATE": str(SCRIPT.with_name("tls.inc.template")),
        "NGINX_ENVSUBST_OUTPUT_DIR": str(written),
    }
    return subprocess.run([SCRIPT], env=environment | settings, capture_output=True, text=True, timeout=30)


def test_the_script_says_what_is_missing_and_writes_nothing_without_a_certificate(tmp_path: Path) -> None:
    folder, written = tmp_path / "tls", tmp_path / "conf.d"
    written.mkdir()
    assert tls_script(folder, written).returncode == 0
    assert not list(written.iterdir())
    folder.mkdir()
    assert "holds no fullchain.pem" in tls_script(folder, written).stderr
    (folder / "fullchain.pem").touch()
    assert "holds no privkey.pem" in tls_script(folder, written).stderr
    (folder / "privkey.pem").touch()
    refused = tls_script(folder, written, AIDERM_HTTPS_PORT="https; evil")
    assert refused.returncode == 1
    assert "must be a number" in refused.stderr
    assert not list(written.iterdir())
    assert tls_script(folder, written, AIDERM_HTTPS_PORT="8443").returncode == 0
    text = (written / "tls.inc").read_text("utf-8")
    assert "listen 8443 ssl http2;" in text
    assert "return 308 https://$host:8443$request_uri;" in text
    assert "${" not in text
    shutil.rmtree(folder)
    assert tls_script(folder, written).returncode == 0
    assert not list(written.iterdir()), "what a certificate left behind that is gone"


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ("1.22.1", ["listen 8443 ssl http2;"]),
        ("1.28.0", ["listen 8443 ssl;", "http2 on;"]),
        ("1.30.2", ["listen 8443 ssl;", "http2 on;"]),
        ("2.0.1", ["listen 8443 ssl;", "http2 on;"]),
    ],
)
def test_http2_is_written_as_each_nginx_wants_it(tmp_path: Path, version: str, lines: list[str]) -> None:
    for name in ("tls/fullchain.pem", "tls/privkey.pem", "bin/nginx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\necho nginx version: nginx/{version} >&2\n")
    (tmp_path / "bin" / "nginx").chmod(0o755)
    result = tls_script(tmp_path / "tls", tmp_path, PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "tls.inc").read_text("utf-8").splitlines()
    assert [line for line in text if line.startswith(("listen", "http2 "))] == lines

"""Runs the real nginx with the image's configuration in front of an API on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.servers import Server, free_port, run_server

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = ROOT / "frontend" / "public"
FOLDER = ROOT / "frontend" / "nginx"
# Like nginx' main configuration file in the image; the site is the shipped template.
MAIN = """daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
  include /etc/nginx/mime.types; default_type application/octet-stream; sendfile on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  include {folder}/site.conf;
}}
"""


def need_nginx() -> str:
    """Returns the path of nginx; if it is missing, skips the test, or fails where no test may be skipped."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        message = "nginx is missing: install it with `sudo apt-get install nginx-light`"
        if os.environ.get("AIDERM_REQUIRE_ALL"):
            pytest.fail(message)
        pytest.skip(message)
    return program


def run_script(name: str, written: Path, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs one of the scripts of the image's entry point; its files go to ``written``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIDERM_")}
    environment |= {"NGINX_ENVSUBST_OUTPUT_DIR": str(written), **(settings or {})}
    return subprocess.run([FOLDER / name], env=environment, capture_output=True, text=True, timeout=30)


@contextmanager
def run_nginx(
    folder: Path, api: int, key: str = "", rate: str = "100r/s", burst: int = 1000, **settings: str
) -> Iterator[Server]:
    """Runs nginx, configured as in the image, in front of an API on this machine.

    Args:
        folder: the folder for its files, including logs.
        api: port of the API.
        key: the API key that nginx adds to the page's requests; the image's script installs it.
        rate: the rate limit of predictions for one client.
        burst: the number of predictions that may come at once.
        settings: further settings by the names of their variables, e.g. ``AIDERM_CORS_ORIGINS``.
    """
    program = need_nginx()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret").write_text(key)
    for script in ("15-page-key.sh", "17-site.sh"):
        result = run_script(script, folder, {"AIDERM_PAGE_KEY_FILE": str(folder / "secret"), **settings})
        assert result.returncode == 0, result.stderr
    port = free_port()
    values = {
        "AIDERM_API_ADDRESS": f"127.0.0.1:{api}",
        "AIDERM_RESOLVER": "127.0.0.1",
        "AIDERM_RATE_LIMIT": rate,
        "AIDERM_RATE_BURST": str(burst),
        "AIDERM_CONNECTIONS": "16",
        "AIDERM_TOTAL_CONNECTIONS": "512",
        "AIDERM_TOTAL_UPLOADS": "32",
        "AIDERM_TOTAL_BATCHES": "8",
        "AIDERM_HSTS": "max-age=31536000",
        **settings,
    }
    site = (FOLDER / "default.conf.template").read_text("utf-8")
    for name, value in values.items():
        site = site.replace(f"${{{name}}}", value)
    assert "${" not in site, "a variable of the template without a value"
    for shipped, here in {
        "/usr/share/nginx/html": str(PUBLIC),
        "/etc/nginx/conf.d/": f"{folder}/",
        "/etc/nginx/": f"{FOLDER}/",
        "/dev/stdout": f"{folder}/access.log",
        "listen 8080": f"listen 127.0.0.1:{port}",
    }.items():
        assert shipped in site, shipped
        site = site.replace(shipped, here)
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    command = [program, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    with run_server(command, port, "/healthz", folder / "error.log") as front:
        yield front

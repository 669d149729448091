"""What a first visit to the page costs on a slow phone: bytes transferred and time until a picture can be chosen.

Chromium is throttled to a slow phone on a mobile network (processor at a quarter, 1.6 Mbit/s down, 150 ms a round trip, as
Lighthouse does), with an empty cache. Needs the developers' environment and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
NETWORK = {"offline": False, "latency": 150, "downloadThroughput": 1_600_000 / 8, "uploadThroughput": 750_000 / 8}
SLOWDOWN = 4


def visit(browser: Browser, address: str, language: str) -> dict[str, float]:
    """One visit with nothing in the cache."""
    context = browser.new_context(viewport={"width": 360, "height": 800}, locale=language, service_workers="block")
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", NETWORK)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.wait_for_timeout(1_500)
    times = page.evaluate(
        """() => ({ usable: performance.getEntriesByName('usable')[0].startTime,
        paint: performance.getEntriesByName('first-contentful-paint')[0].startTime })"""
    )
    context.close()
    return {"bytes": sum(sizes), "requests": len(sizes), "first_paint_ms": times["paint"], "usable_ms": times["usable"]}


def main() -> None:
    """Prints medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a running page; by default one is started as `make run` does")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default=os.environ.get("AIDERM_CHROMIUM", "/usr/bin/chromium"))
    arguments = parser.parse_args()
    process = None
    address = arguments.url
    if address is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = {"AIDERM_PORT": str(port), "AIDERM_FRONTEND_DIR": "frontend/public"}
        process = subprocess.Popen(
            [sys.executable, "-m", "aiderm_api"], cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL
        )
        address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{address}/api/health", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        result = {}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=arguments.chromium, args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
            )
            for language in ("en", "ar"):
                visits = [visit(browser, address, language) for _ in range(arguments.rounds)]
                result[language] = {name: round(statistics.median(v[name] for v in visits)) for name in visits[0]}
            browser.close()
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

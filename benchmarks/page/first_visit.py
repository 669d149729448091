"""Measures a first visit to the page on a slow phone: bytes transferred and time until a picture can be chosen.

Chromium is throttled to a slow phone on a mobile network (a quarter of the processor's speed, 1.6 Mbit/s down, 150 ms
a round trip, as Lighthouse does), with an empty cache. Needs the developers' environment, Chromium, and a machine that is
otherwise idle, because the throttling only divides what the machine has left. The result records the machine's load.
"""

from __future__ import annotations

import argparse
import json
import math
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
LANGUAGES = ("en", "ar")
RESULT = Path(__file__).with_name("result.json")


def visit(browser: Browser, address: str, language: str, slowdown: float = SLOWDOWN) -> dict[str, float]:
    """One visit with nothing in the cache."""
    context = browser.new_context(viewport={"width": 360, "height": 800}, locale=language, service_workers="block")
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", NETWORK)
    session.send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    page.wait_for_timeout(1_500)
    times = page.evaluate(
        """() => Object.fromEntries(['first-contentful-paint', 'usable', 'complete'].map(
        (name) => [name, performance.getEntriesByName(name)[0].startTime]))"""
    )
    context.close()
    return {
        "bytes": sum(sizes),
        "requests": len(sizes),
        "first_paint_ms": times["first-contentful-paint"],
        # as a person sees it: the page cannot be used before its first paint
        "usable_ms": max(times["usable"], times["first-contentful-paint"]),
        "complete_ms": times["complete"],
        "main_thread_ms": metrics["TaskDuration"] * 1000,  # processor time, which other processes do not lengthen
    }


def summary(values: list[float]) -> dict[str, int] | int:
    """Median and best; one number if all are equal."""
    median, best = round(statistics.median(values)), math.floor(min(values) + 0.5)
    return median if min(values) == max(values) else {"median": median, "best": best}


def main() -> None:
    """Writes and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a running page; by default one is started as `make run` does")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default=os.environ.get("AIDERM_CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--out", type=Path, default=RESULT)
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
        result: dict[str, object] = {
            "rounds": arguments.rounds,
            "cores": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 1),
        }
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=arguments.chromium, args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
            )
            result["chromium"] = browser.version
            visit(browser, address, LANGUAGES[0])  # warms up the browser and the server
            for language in LANGUAGES:
                for name, slowdown in (("slow phone", SLOWDOWN), ("its network alone", 1)):
                    visits = [visit(browser, address, language, slowdown) for _ in range(arguments.rounds)]
                    result[f"{language}, {name}"] = {key: summary([v[key] for v in visits]) for key in visits[0]}
            browser.close()
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
    text = json.dumps(result, indent=2)
    arguments.out.write_text(f"{text}\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()

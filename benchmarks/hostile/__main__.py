"""Measures how much longer honest images take while hostile ones arrive at the rate limit. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from benchmarks.processor import processor
from tests import hostile_images
from tests.hostile_load import RATE, Answers, flood, service

RESULT = Path(__file__).with_name("result.json")
KINDS = {"everything hostile": list(hostile_images.ALL), "only what is decoded": list(hostile_images.LEGAL)}


def summary(answers: list[Answers]) -> dict[str, float]:
    """Summarises the seconds of the honest images of all rounds."""
    seconds = sorted(each for one in answers for each in one.seconds)
    return {"median": median(seconds), "95 of 100": quantiles(seconds, n=20, method="inclusive")[-1], "slowest": seconds[-1]}


def spread(ratios: list[float]) -> dict[str, float | list[float]]:
    return {"median": round(median(ratios), 2), "range": [round(min(ratios), 2), round(max(ratios), 2)]}


def measure(url: str, names: list[str], honest: list[bytes], rounds: int, count: int) -> dict[str, object]:
    """Runs each round once without and once with hostile images, in alternating order."""
    images = [hostile_images.make(name) for name in names]
    phases: dict[str, list[list[bytes]]] = {"quiet": [[]] * count, "hostile": [[images[at % len(images)]] for at in range(count)]}
    found: dict[str, list[Answers]] = {phase: [] for phase in phases}
    for turn in range(rounds):
        for phase in sorted(phases, reverse=bool(turn % 2)):
            answers = flood(url, phases[phase], honest, RATE)
            sys.stderr.write(f"round {turn + 1}, {phase}: {answers}\n")
            found[phase].append(answers)
    within = [(summary([hostile]), summary([quiet])) for hostile, quiet in zip(found["hostile"], found["quiet"], strict=True)]
    return {
        "ratio_of_seconds": {figure: spread([one[figure] / other[figure] for one, other in within]) for figure in within[0][0]},
        "honest": dict(sum((one.honest for one in found["hostile"]), Counter())),
        "hostile": dict(sum((one.hostile for one in found["hostile"]), Counter())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=120, help="hostile images a round")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    pixels = hostile_images.soft(600, 450)
    honest = [hostile_images.opencv(extension, pixels) for extension in (".jpg", ".png", ".webp", ".bmp")]
    with service() as (url, memory), memory.watched():
        flood(url, [[]] * 10, honest, RATE)  # warms up: everything is used once
        kinds = {kind: measure(url, names, honest, options.rounds, options.count) for kind, names in KINDS.items()}
    result = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"), "processor": processor(), "cores": len(os.sched_getaffinity(0)),
        "load_before": round(busy, 2),
        "load_after": round(os.getloadavg()[0], 2), "rate": RATE, "rounds": options.rounds, "images_a_round": options.count,
        "peak_megabytes": round(memory.peak / 1e6), "kinds": kinds,
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

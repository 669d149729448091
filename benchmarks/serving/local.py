"""Measures what the same cores do without a server: decode and forward in f32 alone, or the whole assessment of an image.

Reads one line of JSON per measurement from standard input and writes one line of JSON for it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2

from aiderm_core.assess import assess
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.imaging.limits import Limits
from aiderm_core.precision import chosen_variant
from aiderm_core.quality import measurements
from aiderm_core.runtime import PRECISIONS, Hint, Runtime, load_runtime

Work = Callable[[bytes, Hint], object]
STAGES = ("decode", "quality", "forward")


def limit(runtime: Runtime, manifest: Manifest) -> Work:
    """Decodes an image and runs the forward pass, and no more."""
    spec = manifest.input

    def run(data: bytes, hint: Hint) -> object:
        return runtime.run(to_model_input(decode_image(data).pixels, spec.size, spec.geometry)[None], hint)

    return run


def assessment(runtime: Runtime, manifest: Manifest, rule: DecisionRule) -> Work:
    """Assesses an image as every service does: also measures its quality and decides."""
    limits = Limits()

    def run(data: bytes, hint: Hint) -> object:
        return assess(data, manifest=manifest, runtime=runtime, rule=rule, limits=limits, before_inference=lambda: hint)

    return run


def measure(run: Work, cores: int, wanted: dict[str, Any]) -> dict[str, Any]:
    """Runs one thread per client, at most one per core, each with one image at a time."""
    images = [Path(name).read_bytes() for name in wanted["images"]]
    workers = min(cores, wanted["concurrency"])
    hint: Hint = "latency" if workers == 1 else "throughput"
    milliseconds: list[float] = []
    began = time.perf_counter()
    end = began + wanted["seconds"]

    def work(turn: int) -> None:
        while (started := time.perf_counter()) < end:
            run(images[turn % len(images)], hint)
            milliseconds.append((time.perf_counter() - started) * 1000)
            turn += 1

    in_threads(work, workers)
    return {"seconds": time.perf_counter() - began, "milliseconds": milliseconds}


def stages(runtime: Runtime, manifest: Manifest, cores: int, wanted: dict[str, Any]) -> dict[str, float]:
    """Mean processor time of each stage in milliseconds, while one thread per core takes the stages of its images in turn.

    Measured alone, a stage takes up to 40% less than in a request, because its code and data stay in the caches.
    """
    images, spec = [Path(name).read_bytes() for name in wanted["images"]], manifest.input
    spent: list[tuple[float, ...]] = []
    end = time.perf_counter() + wanted["seconds"]

    def work(turn: int) -> None:
        while time.perf_counter() < end:
            began = time.thread_time()
            square = to_model_input(decode_image(images[turn % len(images)], size=spec.size).pixels, spec.size, spec.geometry)
            decoded = time.thread_time()
            measurements.measure(square, square)
            measured = time.thread_time()
            runtime.run(square[None], "throughput")
            spent.append((decoded - began, measured - decoded, time.thread_time() - measured))
            turn += 1

    in_threads(work, cores)
    return {name: round(1000 * fmean(values), 3) for name, values in zip(STAGES, zip(*spent, strict=True), strict=True)}


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Runs ``work`` in ``count`` threads at once, each with its number from 0, and waits for all of them."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))  # reading the results raises what a thread raised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--assess", choices=PRECISIONS, help="the whole assessment in this precision")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    manifest = Manifest.load(options.bundle)
    variant = chosen_variant(manifest, options.assess or "f32")
    runtime = load_runtime("openvino", options.bundle / variant.path, threads=options.cores, precision=variant.precision)
    run = assessment(runtime, manifest, variant.decision or manifest.decision) if options.assess else limit(runtime, manifest)
    for line in sys.stdin:
        wanted = json.loads(line)
        found = stages(runtime, manifest, options.cores, wanted) if "stages" in wanted else measure(run, options.cores, wanted)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

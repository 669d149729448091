"""Measures scaling: scoring against the physical limit, over cores and Ray nodes, and replicas of the API. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
from benchmarks.processor import processor
from benchmarks.scale import document
from benchmarks.serving import images
from benchmarks.serving.subjects import Local, Subject, tree_memory

from aiderm_core.bundle.store import ModelStore
from aiderm_scorer.inputs import Listing
from aiderm_scorer.items import Item
from aiderm_scorer.local_scoring import on_this_machine
from aiderm_scorer.ray_scoring import on_cluster
from aiderm_scorer.score_rows import schema
from aiderm_scorer.scoring import CHUNK, score
from aiderm_scorer.scoring_model import Model

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RAY = str(Path(sys.executable).with_name("ray"))
PORT = 26379
CLIENTS = 8
"""Clients of the API per core."""


def chunks(files: list[Path], count: int) -> list[list[Item]]:
    """``count`` images that repeat a few files, so that the disk is not measured."""
    items = [Item(str(path), str(path)) for path in islice(cycle(files), count)]
    return [items[start : start + CHUNK] for start in range(0, count, CHUNK)]


def local(files: list[Path], model: Model, lanes: int, seconds: float) -> dict[str, float]:
    """Measures the images per second once the processes run, and their memory."""
    done, began = 0, 0.0
    before = tree_memory(os.getpid()) - tree_memory(os.getpid(), children=False)
    with on_this_machine(chunks(files, 100_000), model, table_schema(model), jobs=lanes, timeout=60) as tables:
        for table in tables:
            if not began:
                began = time.perf_counter()
                continue
            done += table.num_rows
            if time.perf_counter() - began >= seconds:
                break
        elapsed = time.perf_counter() - began
        memory = tree_memory(os.getpid()) - tree_memory(os.getpid(), children=False) - before
    return {"rate": done / elapsed, "memory_mb": memory / lanes}


def distributed(files: list[Path], model: Model, nodes: int, count: int) -> float:
    """Measures a cluster's images per second by the time of ``count`` additional images, so that start and end do not count."""

    def seconds(images: int) -> float:
        began = time.perf_counter()
        with on_cluster(chunks(files, images), model, table_schema(model), address=address, jobs=None, timeout=60) as tables:
            done = sum(table.num_rows for table in tables)
        assert done == images
        return time.perf_counter() - began

    with ray_nodes(nodes) as address:
        few = count // 4
        seconds(few)  # warms up: files and Ray's own parts are read from the disk
        return count / (seconds(few + count) - seconds(few))


@contextmanager
def ray_nodes(count: int) -> Iterator[str]:
    """Starts a head node that does no work, and nodes of one core each, pinned to different cores of this machine."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
    common = ["--disable-usage-stats", "--object-store-memory=150000000"]
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="r", dir="/var/tmp") as folder:
        run = {"env": environment, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 120}
        head = [RAY, "start", "--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}"]
        try:
            subprocess.run([*head, "--node-ip-address=127.0.0.1", *common], **run)
            for core in cores[:count]:
                node = ["taskset", "--cpu-list", str(core), RAY, "start", f"--address=127.0.0.1:{PORT}", "--num-cpus=1"]
                subprocess.run([*node, *common], **run)
            yield f"127.0.0.1:{PORT}"
        finally:
            subprocess.run([RAY, "stop", "--force"], env=environment, check=False, stdout=subprocess.DEVNULL, timeout=60)


def replicas(bundle: Path, files: list[Path], seconds: float, folder: Path) -> list[dict[str, float]]:
    """Measures one-core replicas of the API, from one to as many as there are cores, and one replica with all cores."""
    cores = sorted(os.sched_getaffinity(0))

    def started(own: list[int]) -> Subject:
        environment = {
            "AIDERM_MODELS_DIR": str(bundle.parent.parent), "AIDERM_DEFAULT_MODEL": bundle.parent.name, "AIDERM_PORT": "{port}",
            "AIDERM_THREADS": str(len(own)), "AIDERM_LOG_FORMAT": "json",
        }  # fmt: skip
        numbers = ",".join(str(core) for core in own)
        command = ["taskset", "--cpu-list", numbers, sys.executable, "-m", "aiderm_api"]
        api = Subject(f"replica {numbers}", command, environment)
        api.start(files[0].read_bytes(), folder / "api.log")
        return api

    found = []
    for layout in ([[core] for core in cores], [cores]):
        running: list[Subject] = []
        try:
            for own in layout:
                running.append(started(own))
                found.append({"cores": len(own), **load_on(running, files, len(own) * CLIENTS, seconds)})
        finally:
            for api in running:
                api.stop()
    return found


def load_on(running: list[Subject], files: list[Path], clients: int, seconds: float) -> dict[str, float]:
    """Measures the answers per second of all replicas together, with ``clients`` on each, and the memory of a replica."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(running)) as pool:
        raw = list(pool.map(lambda api: api.measure(files, clients, seconds), running))
    rate = sum(one["answered"] / one["seconds"] for one in raw)
    refused = sum(sum(one["statuses"].values()) - one["answered"] + one["broken"] for one in raw)
    return {"replicas": len(running), "rate": rate, "not_answered": refused, "memory_mb": median(api.memory() for api in running)}


def row_bytes(model: Model, files: list[Path], folder: Path) -> float:
    """Bytes of the table per image before compression; compressed, so few distinct images would take too little space."""
    out = folder / "scores.parquet"
    items = [Item(f"{path}-{index}", str(path)) for index in range(250) for path in files]
    score(Listing(items), model, out, partial(on_this_machine, jobs=2, timeout=60))
    return float(pq.read_table(out).nbytes / len(items))


def table_schema(model: Model) -> Any:
    """The scores' columns."""
    return schema(model.manifest, model.precision, model.limits)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--images", type=int, default=2000, help="for the cluster")
    parser.add_argument(
        "--only", choices=["scoring", "cluster", "replicas"], nargs="+", default=["scoring", "cluster", "replicas"]
    )
    parser.add_argument("--document", action="store_true", help="only write docs/scale.md from result.json")
    options = parser.parse_args()
    path = HERE / "result.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if not options.document:
        store = ModelStore(ROOT / "models")
        bundle = store.path("melanoma", store.serving("melanoma"))
        model = Model.load(bundle)
        cores = len(os.sched_getaffinity(0))
        about = {
            "measured": datetime.now(UTC).strftime("%Y-%m-%d"), "processor": processor(), "cores": cores,
            "python": platform.python_version(), "model": f"{model.manifest.name} {model.manifest.version}",
            "precision": model.precision,
        }  # fmt: skip
        result["about"] = result.get("about", {}) | dict.fromkeys(options.only, about)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = images.write(folder)
            sizes = {kind: sum(path.stat().st_size for path in paths) / len(paths) for kind, paths in files.items()}
            result["bytes"] = {kind: round(size) for kind, size in sizes.items()}
            result["row_bytes"] = row_bytes(model, files[document.KIND], folder)
            if "scoring" in options.only:
                result["scoring"] = scoring(bundle, model, files, cores, options, folder)
            if "cluster" in options.only:
                result["cluster"] = clusters(model, files["600x450"], cores, options)
            if "replicas" in options.only:
                result["replicas"] = [replicas(bundle, files["600x450"], options.seconds, folder) for _ in range(options.rounds)]
        path.write_text(json.dumps(result, indent=1) + "\n")
    document.write(result, ROOT / "docs" / "scale.md")


def scoring(
    bundle: Path, model: Model, files: dict[str, list[Path]], cores: int, options: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Measures, in rounds, the limit and the scorer in turns, on one core and on all."""
    limits = {
        n: Local("limit", [sys.executable, "-m", "benchmarks.serving.local", str(bundle), "--cores", str(n)]) for n in {1, cores}
    }
    found = []
    try:
        for limit in limits.values():
            limit.start(files["224px"][0].read_bytes(), folder / "limit.log")
        for turn in range(options.rounds):
            for kind in ("600x450", "12MP"):
                for lanes, limit in limits.items():
                    raw = limit.measure(files[kind], lanes, options.seconds)
                    ours = local(files[kind], model, lanes, options.seconds)
                    again = limit.measure(files[kind], lanes, options.seconds)
                    rate = (raw["answered"] + again["answered"]) / (raw["seconds"] + again["seconds"])
                    found.append({"round": turn, "kind": kind, "cores": lanes, "limit": rate, **ours})
                    print(found[-1], flush=True)
    finally:
        for limit in limits.values():
            limit.stop()
    return found


def clusters(model: Model, files: list[Path], cores: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures, in rounds, one node of one core and as many as there are cores, and each of them without Ray."""
    found = []
    for turn in range(options.rounds):
        for nodes in (1, cores):
            rate = distributed(files, model, nodes, options.images)
            without = local(files, model, nodes, options.seconds)["rate"]
            found.append({"round": turn, "nodes": nodes, "rate": rate, "without_ray": without})
            print(found[-1], flush=True)
    return found


if __name__ == "__main__":
    main()

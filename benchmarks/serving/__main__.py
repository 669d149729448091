"""Measures serving against peers and the physical limit, in one run, in turns, on the same cores. See README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.processor import processor
from benchmarks.serving import images, report
from benchmarks.serving.subjects import Local, Subject, subjects

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCK = HERE / "requirements.lock"
ENVIRONMENT = ROOT / ".cache" / "benchmarks" / "serving"
CONCURRENCY = [1, 8, 32, 128]
OVERLOAD_SECONDS = 10.0  # at least, because answering a full queue takes longer than a second


def peers_environment() -> Path:
    """Installs the peers from the lock file into a separate environment, which is kept until the lock file changes."""
    stamp = ENVIRONMENT / "installed"
    if not stamp.exists() or stamp.read_text() != LOCK.read_text():
        print(f"installing the peers into {ENVIRONMENT.relative_to(ROOT)} (some minutes, once)", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        install = ["install", "--quiet", "--only-binary", ":all:", "--no-deps", "--require-hashes", "-r", str(LOCK)]
        subprocess.run(pip + install, check=True)
        stamp.write_text(LOCK.read_text())
    return ENVIRONMENT


def one_round(running: list[Subject], files: dict[str, list[Path]], options: argparse.Namespace, turn: int) -> dict[str, Any]:
    """Measures every cell once; the subjects' order changes from round to round."""
    cells: dict[str, Any] = {}
    limit = next((subject for subject in running if isinstance(subject, Local)), None)
    order = running[turn % len(running) :] + running[: turn % len(running)]
    for kind in options.kinds:
        for concurrency in options.concurrency:
            found = cells[f"{kind}/{concurrency}"] = {}
            for subject in order:
                found[subject.name] = report.cell(subject.measure(files[kind], concurrency, options.seconds))
            line = ", ".join(f"{name} {value['rate']:g}/s" for name, value in found.items())
            print(f"round {turn + 1}, {kind}, {concurrency} at once: {line}", flush=True)
            if limit is not None and (kind, concurrency) == (report.MAIN, report.STAGES_AT):
                cells["stages"] = limit.stages(files[kind], options.seconds)
    return cells


def overload(subject: Subject, files: list[Path], seconds: float) -> dict[str, Any]:
    """Sends twice the peak rate from 256 clients; measures the rate that is left, and how quickly the rest is refused."""
    peak = report.cell(subject.measure(files, 32, seconds))
    raw = subject.measure(files, 256, seconds, rate=2 * peak["rate"])
    found = report.cell(raw)
    return {"peak": peak["rate"], "goodput": round(found["rate"] / peak["rate"], 3) if peak["rate"] else 0.0, **found}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--name", default="melanoma")
    parser.add_argument("--version", help="the promoted one by default")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each cell")
    parser.add_argument("--concurrency", type=int, nargs="+", default=CONCURRENCY)
    parser.add_argument("--kinds", nargs="+", choices=list(images.KINDS), default=list(images.KINDS))
    parser.add_argument("--no-peers", action="store_true", help="only this service and the limit; installs nothing")
    parser.add_argument("--only", nargs="+", default=[], help="subjects whose names hold one of these, and the limit")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s a cell, to try it out")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for result.json, result.md and result.png")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 2.0
    return options


def main() -> None:
    options = parse_options()
    store = ModelStore(options.models.resolve())
    version = options.version or store.serving(options.name)
    bundle = store.path(options.name, version)
    manifest = Manifest.load(bundle)
    if version != store.serving(options.name):
        raise SystemExit(f"this API serves the promoted version. Received: {version}, promoted: {store.serving(options.name)}")
    precisions = [form.precision for form in manifest.forms if form.runtime == "openvino"]
    environment = None if options.no_peers else peers_environment()
    chosen = subjects(bundle, manifest.input.size, options.cores, precisions, environment)
    if options.only:
        chosen = [s for s in chosen if s.name == report.LIMIT or any(part in s.name for part in options.only)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        files = images.write(folder, sorted({*options.kinds, "224px", report.MAIN}))
        logs = ENVIRONMENT.parent
        logs.mkdir(parents=True, exist_ok=True)
        for subject in chosen:
            stack.callback(subject.stop)
            log = logs / (subject.name.replace(" ", "-").replace(",", "").replace(".", "-") + ".log")
            log.unlink(missing_ok=True)
            subject.start(files["224px"][0].read_bytes(), log)
            print(f"{subject.name}: first answer after {subject.ready_seconds:.1f} s", flush=True)
        rounds = [one_round(chosen, files, options, turn) for turn in range(options.rounds)]
        ours = next(s for s in chosen if s.name.startswith("this API"))
        measured_overload = overload(ours, files[report.MAIN], max(options.seconds, OVERLOAD_SECONDS))
        about = {
            s.name: {"ready_seconds": round(s.ready_seconds, 2), "memory_mb": round(s.memory(), 1)} for s in chosen
        }  # fmt: skip
    result: dict[str, Any] = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "model": f"{manifest.name} {manifest.version} ({manifest.architecture}, {manifest.input.size} px)",
        "processor": processor(),
        "cores": options.cores,
        "seconds": options.seconds,
        "kinds": options.kinds,
        "concurrency": options.concurrency,
        "subjects": about,
        "rounds": rounds,
        "overload": measured_overload,
    }
    result["bar"] = report.bar(result)
    report.write(result, options.out)
    print(report.markdown(result))
    print(f"wrote result.json, result.md and result.png to {options.out}")


if __name__ == "__main__":
    sys.exit(main())

"""The subjects that are measured: each runs in its own process and is queried over HTTP (the limit over a pipe)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.energy import Energy
from benchmarks.serving import load

HERE = Path(__file__).parent
PEERS = HERE / "peers"
START_SECONDS = 240.0


class SubjectError(RuntimeError):
    """A subject that does not start or does not answer."""


@dataclass
class Subject:
    """One way to serve the model.

    Attributes:
        name: name in the table.
        command: command that serves until it is stopped.
        environment: variables in addition to those of this process; ``{port}`` stands for the port.
        folder: working directory.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    port: int = 0
    ready_seconds: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def start(self, image: bytes, log: Path) -> None:
        """Starts the subject and waits for its first answer.

        Raises:
            SubjectError: the subject ended, or did not answer in time.
        """
        self.port = _free_port()
        values = {key: value.format(port=self.port) for key, value in self.environment.items()}
        began = time.perf_counter()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [part.format(port=self.port) for part in self.command],
                env=os.environ | values, cwd=self.folder, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        data = load.request("/predict", image)
        while time.perf_counter() - began < START_SECONDS:
            if self.process.poll() is not None:
                raise SubjectError(f"{self.name} ended while it started; see {log}")
            result = asyncio.run(load.ask_once(self.port, data))
            if result == 200:
                self.ready_seconds = time.perf_counter() - began
                return
            time.sleep(0.02)
        raise SubjectError(f"{self.name} did not answer within {START_SECONDS:g} s; see {log}")

    def measure(self, images: list[Path], concurrency: int, seconds: float, rate: float | None = None) -> dict[str, Any]:
        """Measures one cell of the table; the load generator runs in a separate process."""
        command = [sys.executable, str(HERE / "load.py"), str(self.port), "/predict", *map(str, images)]
        command += [
            "--concurrency",
            str(concurrency),
            "--seconds",
            str(seconds),
            *([] if rate is None else ["--rate", str(rate)]),
        ]
        whole, loop = self.processor()
        energy = Energy()
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 180)
        found = json.loads(done.stdout)
        now_whole, now_loop = self.processor()
        return {**found, "processor": now_whole - whole, "main_thread": now_loop - loop, "joules": energy.joules()}

    def processor(self) -> tuple[float, float]:
        """Seconds of processor time so far: of all its processes, and of the main thread, where Python serves the network."""
        if self.process is None:
            return 0.0, 0.0
        pid = self.process.pid
        threads = [task for each in _tree(pid) for task in Path(f"/proc/{each}/task").glob("*")]
        return sum(map(_on_processor, threads)), _on_processor(Path(f"/proc/{pid}/task/{pid}"))

    def memory(self) -> float:
        """Megabytes of its processes; memory that several share counts once."""
        return tree_memory(self.process.pid) if self.process else 0.0

    def stop(self) -> None:
        """Stops the subject and its children."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(15)


class Local(Subject):
    """Work without a server: decode and forward alone, or whole assessments."""

    def start(self, image: bytes, log: Path) -> None:
        """Starts the process; it is ready once it has assessed an image."""
        began = time.perf_counter()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, start_new_session=True
            )
        first = log.with_suffix(".jpg")
        first.write_bytes(image)
        self.measure([first], 1, 0.01)
        self.ready_seconds = time.perf_counter() - began

    def measure(self, images: list[Path], concurrency: int, seconds: float, rate: float | None = None) -> dict[str, Any]:
        """Measures one cell of the table."""
        found = self._ask({"images": [str(path) for path in images], "concurrency": concurrency, "seconds": seconds})
        count = len(found["milliseconds"])
        return asdict(load.Result(found["seconds"], count, {"200": count}, 0, found["milliseconds"]))

    def stages(self, images: list[Path], seconds: float) -> dict[str, float]:
        """Milliseconds of processor time that an image takes in each stage, with one thread per core."""
        return self._ask({"images": [str(path) for path in images], "seconds": seconds, "stages": True})

    def _ask(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if self.process is None or self.process.stdin is None or self.process.stdout is None:
            raise SubjectError(f"{self.name} was not started")
        self.process.stdin.write(json.dumps(wanted).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SubjectError(f"{self.name} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def subjects(bundle: Path, size: int, cores: int, precisions: list[str], peers: Path | None) -> list[Subject]:
    """The limit, assessments without a server and with this one in each precision, and the peers if they are installed."""
    ours = {
        "AIDERM_MODELS_DIR": str(bundle.parent.parent), "AIDERM_DEFAULT_MODEL": bundle.parent.name, "AIDERM_PORT": "{port}",
        "AIDERM_THREADS": str(cores), "AIDERM_LOG_FORMAT": "json",
    }  # fmt: skip
    local = [sys.executable, "-m", "benchmarks.serving.local", str(bundle), "--cores", str(cores)]
    found: list[Subject] = [Local("physical limit", local)]
    for precision in precisions:
        found.append(Local(f"no server, {precision}", [*local, "--assess", precision]))
        found.append(
            Subject(f"this API, {precision}", [sys.executable, "-m", "aiderm_api"], {**ours, "AIDERM_PRECISION": precision})
        )
    if peers is None:
        return found
    common = {"BENCHMARK_BUNDLE": str(bundle), "BENCHMARK_SIZE": str(size), "BENCHMARK_CORES": str(cores), "PORT": "{port}"}
    python = str(peers / "bin" / "python")
    bento = [
        str(peers / "bin" / "bentoml"), "serve", "bentoml_app:Classifier", "--port", "{port}", "--host", "127.0.0.1",
    ]  # fmt: skip
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
    runs = [("openvino", precision, f"same runtime in {precision}") for precision in precisions]
    for runtime, precision, label in (*runs, ("tensorflow", "f32", "TensorFlow")):
        more = {**common, **quiet, "BENCHMARK_RUNTIME": runtime, "BENCHMARK_PRECISION": precision}
        found.append(Subject(f"LitServe, {label}", [python, "litserve_app.py"], more, PEERS))
        found.append(Subject(f"BentoML, {label}", bento, {**more, "PYTHONPATH": str(PEERS)}, PEERS))
    more = {**common, "BENCHMARK_RUNTIME": "tensorflow"}
    found.append(Subject("FastAPI + signature in threads", [python, "fastapi_pool.py"], more, PEERS))
    found.append(Subject("FastAPI + model.predict", [python, "fastapi_predict.py"], more, PEERS))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree_memory(root: int, children: bool = True) -> float:
    """Megabytes of a process and its descendants; memory that several share counts once."""
    return sum(_pss(pid) for pid in (_tree(root) if children else [root]))


def _tree(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _on_processor(task: Path) -> float:
    try:
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)

"""Faults in a running installation under steady load through nginx: one of three API replicas is hit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.deploy.load import Load, Report

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore, seal, sha256_file

from .conftest import another, docker, readable, run, running, until

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers

HOG = """
import os
open("/proc/1/oom_score_adj", "w").write("1000")
held = []
while True:
    held.append(bytearray(os.urandom(1 << 20)))
"""


@pytest.fixture
def steady(fleet: Stack, assessed_lesion: bytes) -> Iterator[Load]:
    """Load on the three replicas; the test causes the fault and stops the load."""
    with load_on(fleet, assessed_lesion) as load:
        time.sleep(1)
        yield load


def load_on(stack: Stack, assessed_lesion: bytes) -> Load:
    return Load([stack.url], assessed_lesion, clients=3, pause=0.25)


def all_answered(load: Load) -> Report:
    """Stops the load and asserts that every request got the same assessment."""
    time.sleep(1)
    report = load.stop()
    assert len(report.requests) >= 10
    assert not report.failures, f"{report}: {report.failures[:3]}"
    scores = [request.malignancy for request in report.requests]
    assert None not in scores
    assert scores == pytest.approx([scores[0]] * len(scores), abs=1e-4)
    return report


def details(container: str) -> dict[str, Any]:
    return json.loads(docker("inspect", container))[0]


def healthy(container: str) -> bool:
    return details(container)["State"].get("Health", {}).get("Status") == "healthy"


def restarts(container: str) -> int:
    return int(details(container)["RestartCount"])


def direct(stack: Stack, container: str) -> str:
    """A replica's own address, which this host can reach."""
    return f"http://{details(container)['NetworkSettings']['Networks'][f'{stack.project}_internal']['IPAddress']}:8000"


def health(stack: Stack, container: str) -> dict[str, Any]:
    return httpx.get(f"{direct(stack, container)}/health", trust_env=False, timeout=10).json()


def metric(stack: Stack, container: str, name: str) -> float:
    text = httpx.get(f"{direct(stack, container)}/metrics", trust_env=False, timeout=10).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))


def models(stack: Stack) -> Path:
    return Path(stack.environment["AIDERM_MODELS"])


def promote(stack: Stack, version: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("aiderm-train")),
        "promote",
        "melanoma",
        version,
        "--models",
        str(models(stack)),
    ]
    return run(command, os.environ | {"COLUMNS": "300"}, check=False)


def add_version(stack: Stack, version: str) -> Path:
    """Adds a copy of the serving bundle as another version."""
    store = ModelStore(models(stack))
    served = store.path("melanoma", store.serving("melanoma"))
    with store.stage("melanoma", version) as folder:
        shutil.copytree(served, folder, dirs_exist_ok=True)
        seal(folder, Manifest.load(served).model_copy(update={"version": version}))
    readable(models(stack))
    return store.path("melanoma", version)


def serves(stack: Stack, version: str) -> bool:
    return all(health(stack, replica)["models"]["melanoma"]["version"] == version for replica in stack.containers("api"))


def test_a_killed_replica_costs_no_request_and_comes_back(fleet: Stack, steady: Load) -> None:
    victim = fleet.containers("api")[0]
    before = restarts(victim)
    os.kill(details(victim)["State"]["Pid"], 9)
    until(lambda: restarts(victim) > before and healthy(victim), "the killed replica is back")
    all_answered(steady)


def test_a_replica_out_of_memory_costs_no_other_request_and_comes_back(fleet: Stack, steady: Load) -> None:
    victim = fleet.containers("api")[1]
    before, since = restarts(victim), str(int(time.time()) - 1)
    run(["docker", "exec", victim, "python", "-c", HOG], check=False, timeout=120)
    until(lambda: restarts(victim) > before and healthy(victim), "the replica is back")
    all_answered(steady)
    events = docker("events", "--since", since, "--until", str(int(time.time()) + 1), "--filter", f"container={victim}")
    assert " oom " in events, events


def test_a_promoted_version_is_taken_over_between_two_requests(fleet: Stack, steady: Load) -> None:
    serving = ModelStore(models(fleet)).serving("melanoma")
    add_version(fleet, "promoted")
    assert promote(fleet, "promoted").returncode == 0
    until(lambda: serves(fleet, "promoted"), "every replica serves the promoted version")
    report = all_answered(steady)
    assert {request.version for request in report.requests} == {serving, "promoted"}
    assert all(restarts(replica) == details(replica)["RestartCount"] for replica in fleet.containers("api"))


def test_a_corrupt_bundle_is_refused_with_its_reason(fleet: Stack, steady: Load) -> None:
    store = ModelStore(models(fleet))
    serving = store.serving("melanoma")
    weights = add_version(fleet, "corrupt") / "variables" / "variables.data-00000-of-00001"
    with weights.open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)[0]
        file.seek(100_000)
        file.write(bytes([byte ^ 1]))
    refused = promote(fleet, "corrupt")
    assert refused.returncode != 0
    assert "is not what the manifest lists" in refused.stdout + refused.stderr
    # The same, promoted without verification, for example by a copy between machines:
    digest = sha256_file(store.path("melanoma", "corrupt") / "manifest.json")
    (models(fleet) / "melanoma" / "corrupt.sha256").write_text(f"{digest}  corrupt/manifest.json\n")
    chosen = models(fleet) / "melanoma" / "SERVING"
    try:
        chosen.write_text("corrupt\n")

        def states() -> list[dict[str, Any]]:
            return [health(fleet, replica)["models"]["melanoma"] for replica in fleet.containers("api")]

        until(lambda: all(state["reason"] for state in states()), "every replica says why it refuses")
        for state in states():
            assert state["state"] == "serving"
            assert state["version"] == serving
            assert "variables.data-00000-of-00001 is not what the manifest lists" in state["reason"]
        assert all(metric(fleet, replica, "aiderm_models_troubled") == 1 for replica in fleet.containers("api"))
        for replica in fleet.containers("api"):
            log = run(["docker", "logs", "--tail", "200", replica]).stderr
            assert any("model not loaded" in line and "is not what the manifest lists" in line for line in log.splitlines())
        report = all_answered(steady)
        assert {request.version for request in report.requests} == {serving}
    finally:
        chosen.write_text(f"{serving}\n")
    until(lambda: all(state["reason"] is None for state in states()), "the reason is gone with its cause")


def test_sigterm_lets_every_request_in_flight_be_answered(fleet: Stack, steady: Load, assessed_lesion: bytes) -> None:
    victim = fleet.containers("api")[2]
    url = f"{direct(fleet, victim)}/predict/batch"
    batch = [("files", ("a.png", assessed_lesion))] * 16
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(httpx.post, url, files=batch, timeout=60, trust_env=False) for _ in range(4)]
        until(lambda: metric(fleet, victim, "aiderm_queue_depth") >= 4, "pictures wait in the replica")
        docker("stop", victim)
        answers = [future.result() for future in sent]
    lost = sum(answer.status_code != 200 for answer in answers) * 16
    sys.stdout.write(f"{len(answers) * 16} pictures in flight, {lost} lost\n")
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert all(result["assessment"]["decision"] for result in answer.json()["results"])
    state = details(victim)["State"]
    assert state["ExitCode"] == 0, "it had to be killed"
    docker("start", victim)
    until(lambda: healthy(victim), "the replica is back")
    all_answered(steady)


def test_full_disks_and_read_only_models_hinder_no_request(fleet: Stack, steady: Load) -> None:
    replicas = fleet.containers("api")
    fill = "dd if=/dev/zero of=/tmp/full bs=64k 2>/dev/null; echo x >> /tmp/full 2>/dev/null || echo full"
    try:
        for container in [*replicas, fleet.container("frontend")]:
            assert docker("exec", container, "sh", "-c", fill).strip() == "full"
            folders = "/models /etc" if container in replicas else "/etc /usr/share/nginx/html"
            for folder in folders.split():
                refused = run(["docker", "exec", container, "touch", f"{folder}/here"], check=False)
                assert "Read-only file system" in refused.stderr
        until(lambda: sum(metric(fleet, replica, "aiderm_audit_lost_total") for replica in replicas) > 5, "the audit is full")
        all_answered(steady)
    finally:
        for container in [*replicas, fleet.container("frontend")]:
            docker("exec", container, "rm", "-f", "/tmp/full")


def test_without_a_model_the_reason_is_told_until_one_appears(fleet: Stack, assessed_lesion: bytes) -> None:
    chosen = models(fleet) / "melanoma" / "SERVING"
    version = chosen.read_text()
    replicas = fleet.containers("api")
    with load_on(fleet, assessed_lesion) as load:
        time.sleep(1)
        chosen.unlink()
        try:
            docker("restart", *replicas)
            with httpx.Client(base_url=fleet.url, trust_env=False, timeout=30) as client:

                def reason() -> str:
                    answer = client.get("/api/health")
                    return str(answer.json().get("models", {}).get("melanoma", {}).get("reason") or "")

                until(lambda: "no version of melanoma is promoted" in reason(), "/health says why")
                answer = client.post("/api/predict", files={"file": assessed_lesion})
                assert (answer.status_code, answer.json()["code"]) == (503, "no_model")
                assert int(answer.headers["retry-after"]) > 0
                assert client.get("/api/health").status_code == 503
        finally:
            chosen.write_text(version)
        until(lambda: all(healthy(replica) for replica in replicas), "the replicas have found their model")
        time.sleep(1)
        report = load.stop()
    unexpected = [request for request in report.failures if (request.status, request.code) != (503, "no_model")]
    sys.stdout.write(f"{len(report.failures)} of them told 503 no_model, {len(unexpected)} failed otherwise\n")
    assert report.failures
    assert not unexpected
    last = max(request.ended for request in report.failures)
    assert [request for request in report.requests if request.started > last], "it recovered while the load ran"


@pytest.fixture(scope="module")
def unsteady_clock(project: Stack) -> Iterator[Stack]:
    """A stack whose API gets the time from libfaketime; the machine's clock is never changed."""
    stack = another(project, "clock", AIDERM_API_MEMORY="768m")
    image = f"aiderm-api:{stack.environment['AIDERM_VERSION']}"
    recipe = f"""
FROM debian:bookworm-slim AS faketime
RUN apt-get update -q && apt-get install -qy --no-install-recommends faketime
FROM {image}
COPY --from=faketime /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 /usr/local/lib/
ENV LD_PRELOAD=/usr/local/lib/libfaketimeMT.so.1 FAKETIME_TIMESTAMP_FILE=/tmp/offset FAKETIME_NO_CACHE=1
ENV FAKETIME_DONT_FAKE_MONOTONIC=1
"""
    subprocess.run(["docker", "build", "--quiet", "--tag", image, "-"], input=recipe, text=True, check=True, timeout=300)
    with running(stack) as started:
        yield started


@pytest.mark.parametrize("jump", ["+400d", "-400d"])
def test_a_jump_of_the_clock_hinders_no_request(unsteady_clock: Stack, assessed_lesion: bytes, jump: str) -> None:
    replica = unsteady_clock.container("api")
    year = "import datetime; print(datetime.datetime.now().year)"
    with load_on(unsteady_clock, assessed_lesion) as load:
        time.sleep(1)
        set_clock(replica, jump)
        faked = int(docker("exec", replica, "python", "-c", year))
        assert abs(faked - time.localtime().tm_year) >= 1, "the clock has not jumped"
        time.sleep(4)
        set_clock(replica, "+0")
        time.sleep(2)
        all_answered(load)
    assert restarts(replica) == 0
    logged = {json.loads(line)["timestamp"][:4] for line in docker_log(replica)}
    assert str(faked) in logged, "the API itself saw the other time"
    assert healthy(replica)


def set_clock(container: str, offset: str) -> None:
    """Sets the clock atomically, because libfaketime ends a process that reads the file while it is empty."""
    docker("exec", container, "sh", "-c", f"echo {offset} > /tmp/next && mv /tmp/next /tmp/offset")


def docker_log(container: str) -> list[str]:
    return [line for line in run(["docker", "logs", container]).stderr.splitlines() if line.startswith("{")]


def test_the_load_generator_counts_what_fails(assessed_lesion: bytes) -> None:
    """Otherwise zero failures would prove nothing."""
    with Load(["http://127.0.0.1:9"], assessed_lesion, clients=1, pause=0.05) as load:
        threading.Event().wait(1)
        report = load.stop()
    assert report.requests
    assert len(report.failures) == len(report.requests)

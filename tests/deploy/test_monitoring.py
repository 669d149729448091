"""Prometheus' rules and Grafana's dashboard: each alert fires when it should and uses series that the API really exports."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from aiderm_api.app import create_app
from aiderm_api.auth.keys import new_key
from aiderm_api.settings import Settings

from .conftest import run, until

if TYPE_CHECKING:
    from .conftest import Stack

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULE_FILE = MONITORING / "rules" / "aiderm.yml"
RULES = [rule for group in yaml.safe_load(RULE_FILE.read_text("utf-8"))["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "aiderm.json").read_text("utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]

A, B = 'job="aiderm-api", instance="a"', 'job="aiderm-api", instance="b"'
MODEL = 'model="melanoma", version="3"'
# Two healthy replicas; an alert's own series replace those of the same name here.
QUIET = {
    f"up{{{A}}}": "1x120",
    f"up{{{B}}}": "1x120",
    f'aiderm_model_info{{{A}, {MODEL}, default="true"}}': "1x120",
    f'aiderm_model_info{{{B}, {MODEL}, default="true"}}': "1x120",
    f"process_start_time_seconds{{{A}}}": "100x120",
    f'aiderm_requests_total{{{A}, status="200"}}': "0+600x120",
    f'aiderm_decisions_total{{{A}, {MODEL}, decision="low_suspicion"}}': "0+500x120",
    f'aiderm_decisions_total{{{A}, {MODEL}, decision="rejected"}}': "0+100x120",
    f"aiderm_models_troubled{{{A}}}": "0x120",
    f"aiderm_queue_depth{{{A}}}": "3x120",
    f"aiderm_queue_limit{{{A}}}": "128x120",
    f"aiderm_inflight_bytes{{{A}}}": "1000x120",
    f"aiderm_inflight_limit_bytes{{{A}}}": "100000000x120",
    f'aiderm_request_seconds_bucket{{{A}, route="/predict", le="0.5"}}': "0+600x120",
    f'aiderm_request_seconds_bucket{{{A}, route="/predict", le="+Inf"}}': "0+600x120",
    f'aiderm_drift_psi{{{A}, {MODEL}, output="score"}}': "0.3x120",
    f'aiderm_drift_psi_by_chance{{{A}, {MODEL}, output="score"}}': "0.4x120",
    f'aiderm_drift_psi{{{A}, {MODEL}, output="novelty"}}': "0.1x120",
    f'aiderm_drift_psi_by_chance{{{A}, {MODEL}, output="novelty"}}': "0.05x120",
    f"aiderm_keys_troubled{{{A}}}": "0x120",
    f"aiderm_audit_lost_total{{{A}}}": "4x120",
}
FAULTS: dict[str, dict[str, str]] = {
    "AidermDown": {f"up{{{A}}}": "0x120", f"up{{{B}}}": "0x120"},
    "AidermReplicaMissing": {f"up{{{B}}}": "1x50 _x70"},
    "AidermRestarts": {f"process_start_time_seconds{{{A}}}": "100x50 200x5 300x64"},
    "AidermNoModel": {f'aiderm_model_info{{{B}, {MODEL}, default="true"}}': "1x50 _x70"},
    "AidermModelRefused": {f"aiderm_models_troubled{{{A}}}": "0x50 1x70"},
    "AidermVersionsDiffer": {f'aiderm_model_info{{{B}, model="melanoma", version="4", default="true"}}': "1x120"},
    "AidermErrors": {f'aiderm_requests_total{{{A}, status="500"}}': "0+10x120"},
    "AidermShedding": {f'aiderm_shed_total{{{A}, reason="overloaded"}}': "0+10x120"},
    "AidermSlow": {f'aiderm_request_seconds_bucket{{{A}, route="/predict", le="0.5"}}': "0+60x120"}
    | {f'aiderm_request_seconds_bucket{{{A}, route="/predict", le="10.0"}}': "0+600x120"},
    "AidermQueueFull": {f"aiderm_queue_depth{{{A}}}": "120x120"},
    "AidermUploadsFillMemory": {f"aiderm_inflight_bytes{{{A}}}": "95000000x120"},
    "AidermScoreDrift": {f'aiderm_drift_psi{{{A}, {MODEL}, output="score"}}': "0.5x120"},
    "AidermNoveltyDrift": {f'aiderm_drift_psi{{{A}, {MODEL}, output="novelty"}}': "0.5x120"},
    "AidermManyRejected": {f'aiderm_decisions_total{{{A}, {MODEL}, decision="rejected"}}': "0+900x120"},
    "AidermKeysUnusable": {f"aiderm_keys_troubled{{{A}}}": "1x120"},
    "AidermUnauthorized": {f'aiderm_unauthorized_total{{{A}, reason="missing"}}': "0+120x120"},
    "AidermAuditLost": {f"aiderm_audit_lost_total{{{A}}}": "4x55 9x65"},
}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: install it with `sudo apt-get install prometheus`")
    return found


def test_each_alert_fires_for_its_fault_alone(promtool: str, tmp_path: Path) -> None:
    assert set(FAULTS) == {rule["alert"] for rule in RULES}
    cases = [
        {
            "name": name or "all is well",
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in (QUIET | fault).items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "60m",
                    "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}] if name else [],
                }
            ],
        }
        for name, fault in [("", {}), *FAULTS.items()]
    ]
    tests = {"rule_files": [str(RULE_FILE)], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    result = subprocess.run([promtool, "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_accepts_the_configuration(promtool: str, tmp_path: Path) -> None:
    text = (MONITORING / "prometheus.yml").read_text("utf-8")
    (tmp_path / "key").touch()
    text = text.replace("/etc/prometheus/rules", str(MONITORING / "rules")).replace(
        "/run/secrets/metrics_key", str(tmp_path / "key")
    )
    (tmp_path / "prometheus.yml").write_text(text)
    result = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(RULES)} rules found" in result.stdout


@pytest.fixture(scope="module")
def measured(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all series that the API can export."""
    folder = tmp_path_factory.mktemp("measured")
    make_bundle(folder / "models")
    entry, key = new_key("prometheus")
    (folder / "keys.json").write_text(json.dumps({"keys": [entry.model_dump(mode="json")]}))
    settings = Settings(
        models_dir=folder / "models", keys_file=folder / "keys.json", audit=str(folder / "audit.jsonl"), poll_seconds=60
    )
    app = create_app(settings)

    async def metrics() -> str:
        transport = httpx.ASGITransport(app)
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        async with app.router.lifespan_context(app), client:
            return (await client.get("/metrics", headers={"Authorization": f"Bearer {key}"})).text

    text = asyncio.run(metrics())
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    assert len(names) > 30
    return names


def test_rules_and_dashboard_ask_for_what_the_api_measures(measured: set[str]) -> None:
    asked = set()
    for expression in [*(rule["expr"] for rule in RULES), *QUERIES]:
        asked |= set(re.findall(r"\b(?:aiderm|process)_[a-z_]+\b", expression))
    assert len(asked) > 20
    assert asked <= measured
    # The documentation promises a view of these:
    for part in ("request_seconds", "queue_depth", "shed", "problems", "decisions", "drift_psi"):
        assert any(part in query for query in QUERIES), part


def test_each_alert_has_its_entry_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    entries = re.findall(r"^### (Aiderm\w+)$", runbook, re.M)
    assert entries == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        entry = runbook.split(f"### {rule['alert']}\n", 1)[1].split("\n### ", 1)[0]
        assert len(entry) > 150, f"the entry of {rule['alert']} says nothing"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_dashboard_is_whole() -> None:
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/aiderm.yml").read_text("utf-8"))["datasources"][0]
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["targets"]
            assert panel["datasource"]["uid"] == source["uid"]
    assert source["url"] == "http://prometheus:9090"


@pytest.fixture(scope="module")
def prometheus(fleet: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Runs the compose file's Prometheus beside the fleet, with Debian's program in place of its image; yields its address."""
    image = f"aiderm-prometheus:{fleet.project}"
    recipe = """
FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -qy --no-install-recommends prometheus && mkdir /prometheus && chown 65534 /prometheus
USER 65534
ENTRYPOINT ["/usr/bin/prometheus"]
"""
    subprocess.run(["docker", "build", "--quiet", "--tag", image, "-"], input=recipe, text=True, check=True, timeout=300)
    overlay = tmp_path_factory.mktemp("monitoring") / "compose.yml"
    overlay.write_text(f"services: {{prometheus: {{image: '{image}'}}}}\n")
    files = os.pathsep.join([str(ROOT / "docker-compose.yml"), str(overlay)])
    stack = dataclasses.replace(fleet, environment={**fleet.environment, "COMPOSE_FILE": files, "COMPOSE_PROFILES": "monitoring"})
    try:
        stack.compose("up", "--detach", "--no-deps", "--no-build", "prometheus")
        address = f"http://{stack.address('prometheus')}:9090"
        until(lambda: ready(address), "Prometheus is ready", seconds=60)
        yield address
    finally:
        stack.compose("rm", "--stop", "--force", "--volumes", "prometheus", check=False)
        run(["docker", "image", "rm", image], check=False)


def ready(address: str) -> bool:
    """Whether Prometheus has opened its storage; until then it listens, but answers every query with 503."""
    try:
        return httpx.get(f"{address}/-/ready", trust_env=False, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def ask(address: str, path: str, **query: str) -> Any:
    answer = httpx.get(f"{address}/api/v1/{path}", params=query, trust_env=False, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.mark.containers
def test_prometheus_finds_every_replica_and_answers_every_panel(prometheus: str) -> None:
    up: list[Any] = []
    for _ in range(120):
        up = [target for target in ask(prometheus, "targets")["activeTargets"] if target["health"] == "up"]
        if len(up) == 3:
            break
        time.sleep(0.5)
    assert len({target["scrapeUrl"] for target in up}) == 3
    loaded = [rule["name"] for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]
    assert sorted(loaded) == sorted(rule["alert"] for rule in RULES)
    for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        ask(prometheus, "query", query=query.replace("$__rate_interval", "1m"))
    replicas = ask(prometheus, "query", query='count(aiderm_model_info{default="true"})')["result"]
    assert replicas[0]["value"][1] == "3"
    critical = [alert for alert in ask(prometheus, "alerts")["alerts"] if alert["state"] == "firing"]
    assert not critical, critical

"""The audit trail: one line per response, and a record of every gap."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from aiderm_api.auth.keys import changing, new_key
from aiderm_api.settings import SettingsError
from aiderm_api.telemetry.audit import AuditTrail, open_trail


def events(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def started(target: str, **options) -> AuditTrail:
    trail = AuditTrail(target, **options)
    trail.start()
    return trail


def test_off_is_no_trail():
    assert open_trail("off") is None
    assert open_trail("OFF") is None


def test_events_are_numbered_dated_and_private(tmp_path):
    path = tmp_path / "audit.jsonl"
    for _ in range(2):  # a second run appends
        trail = started(str(path))
        for n in range(50):
            trail.record({"event": "answer", "n": n})
        trail.close(10)
    lines = events(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second = lines[:52], lines[52:]
    for run in (first, second):
        assert [line["event"] for line in run] == ["opened", *["answer"] * 50, "closed"]
        assert [line["sequence"] for line in run] == list(range(1, 53))
        assert [line["n"] for line in run[1:-1]] == list(range(50))
        assert run[-1]["lost"] == 0
        assert len({line["trail"] for line in run}) == 1
    assert first[0]["trail"] != second[0]["trail"]
    assert all(line["time"].endswith("Z") for line in lines)


def test_record_waits_for_nobody_and_a_gap_is_told(tmp_path):
    """The trail goes to a named pipe whose reader stops reading."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    trail = started(str(path), queue_size=50)
    padding = "x" * 4000
    for n in range(300):  # the pipe holds 64 KiB
        trail.record({"event": "answer", "n": n, "padding": padding})
    assert trail.lost > 0
    lost_then = trail.lost
    received = bytearray()
    os.set_blocking(reader, True)
    done = threading.Event()

    def read() -> None:
        while chunk := os.read(reader, 65536):
            received.extend(chunk)
        done.set()

    threading.Thread(target=read, daemon=True).start()
    end = threading.Event()
    while trail.waiting and not end.wait(0.01):
        pass
    trail.record({"event": "answer", "n": 300})
    trail.close(10)
    assert done.wait(10)
    os.close(reader)
    lines = [json.loads(line) for line in received.decode().splitlines()]
    numbers = [line["n"] for line in lines if line["event"] == "answer"]
    assert numbers[-1] == 300
    assert sum(line["count"] for line in lines if line["event"] == "lost") == lost_then == 301 - len(numbers)
    assert lines[-1]["lost"] == lost_then
    sequences = [line["sequence"] for line in lines if line["sequence"] is not None]
    assert sequences == sorted(sequences)
    assert sequences[-1] - len(sequences) == lost_then, "the numbers show the gap"


def test_a_full_disk_loses_lines_and_says_so(monkeypatch, tmp_path):
    path = tmp_path / "audit.jsonl"
    trail = started(str(path))
    while trail.waiting:
        pass
    full = threading.Event()
    full.set()
    write = os.write

    def limited(descriptor: int, data: bytes) -> int:
        if descriptor != trail._descriptor or not full.is_set():
            return write(descriptor, data)
        if len(data) > 10:  # the disk takes the beginning of a line and is then full
            return write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", limited)
    trail.record({"event": "answer", "n": 1})
    while trail.waiting:
        pass
    assert trail.lost == 1
    full.clear()
    trail.record({"event": "answer", "n": 2})
    trail.close(10)
    whole = []
    for line in path.read_text("utf-8").splitlines():
        try:
            whole.append(json.loads(line))
        except ValueError:
            whole.append({"event": "torn"})
    assert [line["event"] for line in whole] == ["opened", *["torn"] * (len(whole) - 4), "lost", "answer", "closed"]
    assert [line.get("n") for line in whole][-2] == 2


def test_a_file_that_was_moved_away_is_made_anew(tmp_path):
    path = tmp_path / "audit.jsonl"
    trail = started(str(path))
    while trail.waiting:
        pass
    path.rename(tmp_path / "audit.1")
    trail.record({"event": "answer"})
    trail.close(10)
    assert [line["event"] for line in events(tmp_path / "audit.1")] == ["opened"]
    assert [line["event"] for line in events(path)] == ["answer", "closed"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_descriptors_are_taken_over_not_opened(tmp_path):
    reader, writer = os.pipe()
    trail = started(f"/dev/fd/{writer}")
    trail.close(10)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        assert [json.loads(line)["event"] for line in stream] == ["opened", "closed"]


@pytest.mark.parametrize("target", ["stderr", "/dev/stderr", "/dev/fd/2", "/dev/fd/987", "", "/nowhere/audit.jsonl"])
def test_a_stream_that_is_none_is_refused(target):
    with pytest.raises(SettingsError, match="AIDERM_AUDIT") as caught:
        AuditTrail(target)
    assert repr(target) in str(caught.value)


def test_a_folder_a_pipe_without_reader_and_a_file_open_to_others_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o666)
    for name, said in ((".", "directory"), ("pipe", "append"), ("file", "chmod go-w")):
        with pytest.raises(SettingsError, match=said):
            AuditTrail(str(tmp_path / name))


def test_every_answer_is_recorded_with_all_that_decided(serve, forms, tmp_path):
    path, keys_file = tmp_path / "audit.jsonl", tmp_path / "keys.json"
    key, secret = new_key("clinic")
    with changing(keys_file) as keys:
        keys.append(key)
    running = serve(audit=str(path), keys_file=keys_file)
    running.client.headers["Authorization"] = f"Bearer {secret}"
    suspicious, rejected = forms.png_of(230), forms.png_of(230, blue=200)
    answer = running.client.post("/predict", files={"file": ("jane.png", suspicious)}, headers={"X-Request-ID": "r1"}).json()
    running.client.post("/predict?model=binary", files=[("file", rejected)])
    running.client.post("/predict", files={"file": b"%PDF-1.7"})
    running.client.post("/predict/batch", files=[("files", suspicious), ("files", b"no"), ("files", rejected)])
    running.client.post("/predict/lesion", files=[("files", suspicious), ("files", rejected)], headers={"X-Request-ID": "r2"})
    running.client.post("/compare", files=[("files", suspicious)] * 2, headers={"X-Request-ID": "r3"})
    forms.wait_until(lambda: running.services.audit.waiting == 0)
    metrics = running.client.get("/metrics").text
    assert 'aiderm_lesion_decisions_total{decision="suspicious",model="melanoma",version="1"} 1.0' in metrics
    assert "aiderm_audit_written_total 11.0" in metrics
    assert "aiderm_audit_lost_total 0.0" in metrics
    running.stop()

    opened, first, other, *batch, _, _, lesion, _, _, compared, closed = events(path)
    assert (opened["event"], closed["event"]) == ("opened", "closed")
    assert first == {
        "time": first["time"],
        "trail": opened["trail"],
        "sequence": 2,
        "event": "answer",
        "request_id": "r1",
        "index": None,
        "key": key.id,
        "image_sha256": hashlib.sha256(suspicious).hexdigest(),
        "model": {"name": "melanoma", "version": "1", "runtime": "openvino", "precision": "f32", "thorough": False},
        "outputs": {
            "malignancy": answer["malignancy"],
            "classes": {item["id"]: item["probability"] for item in answer["classes"]},
            "novelty": answer["novelty"],
        },
        "decision": "suspicious",
        "reasons": ["threshold"],
        "quality_warnings": [],
    }
    assert (other["model"]["name"], other["decision"], other["reasons"]) == ("binary", "rejected", ["novelty"])
    assert other["outputs"]["malignancy"] is None
    assert sorted((line["index"], line["decision"]) for line in batch) == [(0, "suspicious"), (2, "rejected")]
    assert {key: lesion[key] for key in ("event", "request_id", "key", "counted", "disagreement", "decision", "reasons")} == {
        "event": "lesion",
        "request_id": "r2",
        "key": key.id,
        "counted": [0],
        "disagreement": None,
        "decision": "suspicious",
        "reasons": ["threshold"],
    }
    assert {name: compared[name] for name in compared.keys() - {"time", "trail", "sequence"}} == {
        "event": "comparison",
        "request_id": "r3",
        "key": key.id,
        "result": "not_comparable",
        "reasons": ["same_file"],
        "growth": None,
        "colour_change": None,
    }
    assert "jane" not in path.read_text("utf-8")


def test_an_answer_does_not_wait_for_the_trail(serve, forms, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    running = serve(audit=str(path))
    trail = running.services.audit
    for _ in range(40):
        trail.record({"event": "noise", "padding": "x" * 4000})  # more than the pipe holds
    assert running.client.post("/predict", files={"file": forms.png_of(230)}).status_code == 200
    assert trail.waiting > 0
    os.close(reader)
    forms.wait_until(lambda: trail.waiting == 0)
    assert trail.lost > 0
    assert running.client.post("/predict", files={"file": forms.png_of(230)}).status_code == 200
    forms.wait_until(lambda: f"aiderm_audit_lost_total {float(trail.lost)}" in running.client.get("/metrics").text)

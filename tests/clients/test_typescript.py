"""The TypeScript client compiles in strict mode, matches the OpenAPI document, and passes its own tests against a service."""

from __future__ import annotations

import json
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "clients" / "typescript"


def test_the_types_are_what_the_document_generates(npm):
    checked = npm("run", "--silent", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr + "run: .venv/bin/python clients/generate.py"


def test_its_own_tests_pass_before_a_running_service(npm, keyed, pictures):
    url, key, _ = keyed
    folder = str(pictures["suspicious"].parent)
    tested = npm("test", "--silent", AIDERM_URL=url, AIDERM_API_KEY=key, AIDERM_PICTURES=folder)
    assert tested.returncode == 0, tested.stdout[-5000:] + tested.stderr
    passed = int(next(line for line in tested.stdout.splitlines() if "pass " in line).split("pass ")[1])
    assert passed >= 20


def test_no_file_names_a_registry():
    lock = json.loads((PACKAGE / "package-lock.json").read_text("utf-8"))
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)

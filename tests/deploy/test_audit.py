"""`make audit` reports advisories, and never treats missing data as a good result."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import ROOT


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    specification = importlib.util.spec_from_file_location("audit", ROOT / "deploy" / "audit" / "advisories.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules["audit"] = module
    specification.loader.exec_module(module)
    return module


class PipAudit:
    """Stands in for pip-audit and records the packages that it was asked about."""

    def __init__(self, known: bool = True, advisories: dict[str, str] | None = None, broken: bool = False) -> None:
        self.known, self.advisories, self.broken = known, advisories or {}, broken
        self.asked: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> str:
        packages = [line.split("==") for line in Path(command[-1]).read_text("utf-8").splitlines()]
        self.asked.append(["==".join(package) for package in packages])
        if self.broken:
            return json.dumps({"error": ["no network"]})
        if not self.known:
            return json.dumps({"dependencies": [{"name": name, "skip_reason": "not found on PyPI"} for name, _ in packages]})
        vulns = {name: [{"id": self.advisories[name]}] if name in self.advisories else [] for name, _ in packages}
        return json.dumps({"dependencies": [{"name": n, "version": v, "vulns": vulns[n]} for n, v in packages]})


def test_every_locked_package_is_asked_for_once(audit: ModuleType) -> None:
    locked = audit.locked()
    assert len(locked) > 100
    pip = PipAudit()
    outcome = audit.python([*locked, "zzz==1", "zzz==2"], pip)
    assert sorted(package for part in pip.asked for package in part) == sorted([*locked, "zzz==1", "zzz==2"])
    for part in pip.asked:
        names = [package.split("==")[0] for package in part]
        assert len(names) == len(set(names)), "pip-audit refuses a package twice"
    assert audit.status([outcome]) == 0
    assert f"{len(locked) + 2} packages checked; known advisories: 0" in outcome.text()


def test_an_advisory_is_found(audit: ModuleType) -> None:
    outcome = audit.python(["a==1", "b==2", "c==3"], PipAudit(advisories={"b": "PYSEC-1"}))
    assert outcome.advisories == ["b 2: PYSEC-1"]
    assert audit.status([outcome, audit.Outcome("other", unchecked=["x"])]) == 1
    assert "b 2: PYSEC-1" in outcome.text()


@pytest.mark.parametrize("pip", [PipAudit(known=False), PipAudit(broken=True)], ids=["package-unknown", "no-network"])
def test_where_nothing_is_known_nothing_is_promised(audit: ModuleType, pip: PipAudit) -> None:
    outcome = audit.python(["a==1", "b==2", "c==3"], pip)
    assert pip.asked == [["a==1"]], "the others would have the same answer"
    assert audit.status([outcome]) == 3
    assert "NOT CHECKED: 3 of 3 packages, e.g. a" in outcome.text()


def test_npm_is_understood(audit: ModuleType) -> None:
    found = {"vulnerabilities": {"left-pad": {"severity": "high"}}}
    assert audit.typescript(lambda _: json.dumps(found)).advisories == ["left-pad: high"]
    assert audit.status([audit.typescript(lambda _: json.dumps({"vulnerabilities": {}}))]) == 0
    refused = audit.typescript(lambda _: json.dumps({"message": "405 Method Not Allowed", "statusCode": 405}))
    assert audit.status([refused]) == 3
    assert "405 Method Not Allowed" in refused.text()


@pytest.mark.ci
@pytest.mark.filterwarnings("always:advisories:UserWarning")
def test_no_locked_package_has_a_known_advisory() -> None:
    """Lists, as a warning, the sources that could not be reached."""
    result = subprocess.run([ROOT / "deploy" / "audit" / "audit.sh"], capture_output=True, text=True, timeout=900)
    assert result.returncode in {0, 3}, result.stdout + result.stderr
    assert ("NOT CHECKED" in result.stdout) == (result.returncode == 3)
    if result.returncode == 3:
        # Missing data is no failure of the project but must be visible, and pytest hides the output of tests that pass.
        warnings.warn(f"advisories were not looked for everywhere:\n{result.stdout}", stacklevel=1)

"""Looks for known advisories against all locked packages: Python's with pip-audit, the TypeScript client's with npm audit.

Exit status 0: all packages were checked and none has an advisory. 1: there are advisories. 3: the data could not be reached, so
nothing is known; pip-audit alone would report "no known vulnerabilities" then. ``make audit`` calls this script.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)
FOUND, UNKNOWN = 1, 3
Run = Callable[[Sequence[str]], str]


@dataclass
class Outcome:
    """The result of the check for packages of one kind."""

    kind: str
    checked: int = 0
    advisories: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def text(self) -> str:
        """A summary line, and one line for each advisory."""
        if self.unchecked:
            missing = (
                f"NOT CHECKED: {len(self.unchecked)} of {len(self.unchecked) + self.checked} packages, e.g. {self.unchecked[0]}"
            )
        else:
            missing = f"{self.checked} packages checked"
        found = "".join(f"\n  {line}" for line in self.advisories)
        return f"audit: {self.kind}: {missing}; known advisories: {len(self.advisories)}{found}"


def locked() -> list[str]:
    """Each ``name==version`` of the Python locks, once."""
    locks = [*ROOT.glob("services/*/requirements.lock"), *ROOT.glob("deploy/*/requirements.lock")]
    locks += [ROOT / "tests" / "requirements.lock", ROOT / "benchmarks" / "serving" / "requirements.lock"]
    return sorted({f"{name}=={version}" for lock in locks for name, version in PINNED.findall(lock.read_text("utf-8"))})


def run(command: Sequence[str]) -> str:
    """Returns a command's standard output, whatever its exit status: both tools report findings by a non-zero status."""
    found = subprocess.run([*command], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    return found.stdout or json.dumps({"error": found.stderr.strip().splitlines()[-1:]})


def lists(requirements: Sequence[str]) -> Iterator[list[str]]:
    """Yields the first package alone, then lists without repeated names: pip-audit refuses two versions of a package in one."""
    yield [*requirements[:1]]
    rest = [*requirements[1:]]
    while rest:
        once = {package.split("==")[0]: package for package in rest}
        yield [*once.values()]
        rest = [package for package in rest if package not in once.values()]


def python(requirements: Sequence[str], run: Run = run) -> Outcome:
    """Runs pip-audit on the packages; if the first one cannot be checked, the others are not tried."""
    outcome = Outcome("Python")
    for part in lists(requirements):
        if outcome.unchecked and not outcome.checked:
            outcome.unchecked += [f"{package}: not asked for" for package in part]
            continue
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(part))
            file.flush()
            command = [
                sys.executable,
                "-m",
                "pip_audit",
                "--disable-pip",
                "--no-deps",
                "--progress-spinner",
                "off",
                "--format",
                "json",
            ]
            report: dict[str, Any] = json.loads(run([*command, "--requirement", file.name]))
        if "dependencies" not in report:
            outcome.unchecked += [f"{package}: {report.get('error')}" for package in part]
        for package in report.get("dependencies", []):
            label = f"{package['name']} {package.get('version', '')}".strip()
            if "vulns" in package:
                outcome.checked += 1
                outcome.advisories += [f"{label}: {advisory['id']}" for advisory in package["vulns"]]
            else:
                outcome.unchecked.append(f"{label}: {package.get('skip_reason', 'no reason given')}")
    return outcome


def typescript(run: Run = run) -> Outcome:
    """Runs npm audit on the TypeScript client's lock file."""
    outcome = Outcome("TypeScript")
    if shutil.which("npm") is None:
        outcome.unchecked.append("npm was not found")
        return outcome
    client = ROOT / "clients" / "typescript"
    packages = [name for name in json.loads((client / "package-lock.json").read_text("utf-8"))["packages"] if name]
    report = json.loads(run(["npm", "audit", "--package-lock-only", "--json", "--prefix", str(client)]))
    if "vulnerabilities" not in report:
        outcome.unchecked = [f"{name}: {report.get('message') or report.get('error')}" for name in packages]
        return outcome
    outcome.checked = len(packages)
    outcome.advisories = [f"{name}: {found['severity']}" for name, found in report["vulnerabilities"].items()]
    return outcome


def status(outcomes: Sequence[Outcome]) -> int:
    """The exit status; known advisories take precedence over unchecked packages."""
    if any(outcome.advisories for outcome in outcomes):
        return FOUND
    return UNKNOWN if any(outcome.unchecked for outcome in outcomes) else 0


if __name__ == "__main__":
    outcomes = [python(locked()), typescript()]
    sys.stdout.write("".join(f"{outcome.text()}\n" for outcome in outcomes))
    sys.exit(status(outcomes))

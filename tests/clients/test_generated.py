"""The generated files in clients/ match what the API's current code generates."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

CLIENTS = Path(__file__).parents[2] / "clients"


def test_openapi_json_is_the_apps_own(monkeypatch):
    monkeypatch.setenv("AIDERM_METRICS", "false")  # settings of the machine must not affect the document
    spec = importlib.util.spec_from_file_location("generate", CLIENTS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.fhir_module() == (CLIENTS / "python" / "src" / "aiderm_client" / "fhir.py").read_text("utf-8")
    assert generate.document() == (CLIENTS / "openapi.json").read_text("utf-8"), "run: .venv/bin/python clients/generate.py"


def test_the_python_client_installs_by_itself(tmp_path):
    """Installs it like `pip install ./clients/python`, but without dependencies, which the test environment already has."""
    package = tmp_path / "python"  # a copy, because setuptools leaves its folders behind
    shutil.copytree(CLIENTS / "python", package, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    options = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", tmp_path / "installed"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, package], check=True, timeout=120)
    assert (tmp_path / "installed" / "aiderm_client" / "py.typed").is_file()
    code = (
        "import aiderm_client, sys; assert not [name for name in sys.modules if name.startswith(('aiderm_core', 'aiderm_api'))]"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": "installed"}, cwd=tmp_path, check=True, timeout=120)

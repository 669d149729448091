"""TensorFlow's start-up messages are hidden unless they are requested."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from aiderm_trainer.cli import app
from aiderm_trainer.commands.quiet import SETTINGS

NAME = "TF_CPP_MIN_LOG_LEVEL"
PROBE = f"""
import os, sys
from aiderm_trainer.cli import app
assert "tensorflow" not in sys.modules
app(sys.argv[1:], standalone_mode=False)
print("level", os.environ.get({NAME!r}))
"""


@pytest.mark.parametrize(("options", "given", "level"), [([], None, "3"), (["--verbose"], None, None), ([], "0", "0")])
def test_libraries_are_silenced_before_they_are_imported(options, given, level):
    environment = {key: value for key, value in os.environ.items() if key != NAME} | ({NAME: given} if given else {})
    command = [sys.executable, "-c", PROBE, *options, "rollback", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == f"level {level}"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command in a separate process, as a user would."""
    command = [sys.executable, "-m", "aiderm_trainer.cli", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)


@pytest.mark.ci
def test_a_training_writes_nothing_but_its_own_lines(synthetic_split, tmp_path):
    split, data = synthetic_split
    sizes = ["--size", 48, "--epochs", 1, "--head-epochs", 1, "--batch", 16]
    done = run("train", "--split", split, "--data", data, "--arch", "custom_cnn", *sizes, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    *_, result, suggestion = done.stdout.splitlines()
    assert result.startswith("best epoch 1: ")
    assert suggestion == f"Next: aiderm-train export {tmp_path / 'run'} --name NAME --version 1"


@pytest.mark.ci
def test_verbose_brings_the_messages_of_the_libraries_back(tmp_path):
    done = run("--verbose", "train", "--split", tmp_path / "none.csv", "--arch", "custom_cnn", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "absl" in done.stderr
    assert f"error: cannot read {tmp_path / 'none.csv'}" in done.stderr


def test_only_native_messages_are_hidden():
    code = """
import os, sys
from aiderm_trainer.commands.quiet import native_messages_hidden
with native_messages_hidden():
    os.write(2, b"native")
    print("python", file=sys.stderr)
os.write(2, b"after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "python\nafter"


def test_brackets_in_messages_are_shown(tmp_path):
    result = CliRunner().invoke(app, ["promote", "melanoma", "1[int8]", "--models", str(tmp_path)])
    assert result.exit_code == 2
    assert result.output.endswith("Received: '1[int8]'\n")

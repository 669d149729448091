"""TensorFlow's start-up messages stay off the terminal, unless somebody asks for them."""

import os
import subprocess
import sys

import pytest

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

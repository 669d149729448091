"""SECURITY.md names a test for each promise, and the test exists."""

from __future__ import annotations

import ast
import re

import pytest

from .conftest import ROOT

TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", "\n".join(ROWS))))


def test_each_promise_names_a_test() -> None:
    assert len(ROWS) > 25
    for row in ROWS:
        assert re.search(r"`tests/[^`]+`", row.rsplit("|", 2)[1]), row


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    file, _, function = name.partition("::")
    assert (ROOT / file).is_file(), name
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function in defined if function else any(each.startswith("test_") for each in defined), name

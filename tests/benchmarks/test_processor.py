"""Processors of several generations share a name; family and model tell them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.processor import processor

EPYC = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\ncpu family\t: 99\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [(EPYC, "AMD EPYC (family 26, model 2)"), ("processor\t: 0\nmodel name\t: Cortex-A72\n", "Cortex-A72")],
)
def test_the_first_processor_is_named(text: str, name: str, tmp_path: Path) -> None:
    described = tmp_path / "cpuinfo"
    described.write_text(text)
    assert processor(described) == name

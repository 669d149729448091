"""The table of how the page's encoders affect answers matches the result beside it."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.page.reencoding import table

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "page"


def test_the_table_is_that_of_the_result() -> None:
    result = json.loads((FOLDER / "reencoding.json").read_text("utf-8"))
    assert (FOLDER / "reencoding.md").read_text("utf-8") == table(result)
    # the page promises to remove metadata and keep the pixels
    assert result["variants"]["metadata"]["probability_moved"] == {"median": 0.0, "most": 0.0}
    assert result["variants"]["png"]["decision_changed"]["count"] == 0

"""The table in benchmarks/decoding matches the results beside it."""

import json

from benchmarks.decoding.__main__ import RESULT, markdown


def test_the_table_is_made_from_the_result() -> None:
    assert RESULT.with_suffix(".md").read_text() == markdown(json.loads(RESULT.read_text()))

"""The growing table has no duplicate, lost or half-written rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_core.imaging.limits import Limits
from aiderm_scorer.output import MARKER, Output, OutputError
from aiderm_scorer.score_rows import about, schema, to_table
from aiderm_scorer.scoring_model import Model


@pytest.fixture(scope="module")
def table_schema(model: Model) -> pa.Schema:
    return schema(model.manifest, "f32", Limits())


def rows(names: Sequence[str], table_schema: pa.Schema, error: str | None = None) -> pa.Table:
    return to_table([{"image": name, "error": error, "malignancy": 0.25, "model": "melanoma"} for name in names], table_schema)


class Killed(BaseException):
    """Ends a block like a kill, except that clean-up code still runs."""


@settings(deadline=None, max_examples=25)
@given(batches=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["flush", "stop", "finish", "go on"])), max_size=8))
def test_rows_survive_whatever_order_of_stops(
    batches: list[tuple[int, str]], table_schema: pa.Schema, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("out") / "scores.parquet"
    count, expected = 0, set()
    for size, then in [*batches, (1, "finish")]:
        with Output.open(path, table_schema) as output:
            assert output.done() == expected
            names = [f"{count + index:05d}" for index in range(size)]
            count += size
            expected.update(names)
            output.add(rows(names, table_schema))
            if then == "flush":
                output.flush()
            if then == "finish":
                output.finish()
    found = pq.read_table(path)
    assert found["image"].to_pylist() == sorted(expected)
    assert not path.with_name("scores.parquet.parts").exists()
    assert about(found.schema)["model"] == "melanoma"


def test_a_kill_between_merging_and_clearing_doubles_no_row(tmp_path: Path, table_schema: pa.Schema) -> None:
    path = tmp_path / "scores.parquet"
    with Output.open(path, table_schema) as output:
        output.add(rows(["a", "b"], table_schema))
        output.flush()
    part = next(tmp_path.glob("*.parts/*.parquet"))
    copy = part.read_bytes()
    with Output.open(path, table_schema) as output:
        output.finish()
    part.parent.mkdir()
    (part.parent / MARKER).touch()
    part.write_bytes(copy)
    with Output.open(path, table_schema) as output:
        assert output.done() == {"a", "b"}
        output.add(rows(["c"], table_schema))
        assert output.finish()["image"].to_pylist() == ["a", "b", "c"]


def test_scores_of_another_model_or_another_file_are_not_touched(tmp_path: Path, table_schema: pa.Schema, model: Model) -> None:
    path = tmp_path / "scores.parquet"
    with Output.open(path, table_schema) as output:
        output.add(rows(["a"], table_schema))
        output.finish()
    before = path.read_bytes()
    other = schema(model.manifest.model_copy(update={"version": "2"}), "f32", Limits())
    with pytest.raises(OutputError, match="version 1 there, 2 now"), Output.open(path, other):
        pass
    stranger = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"x": [1]}), stranger)
    with pytest.raises(OutputError, match="scores of another kind"), Output.open(stranger, table_schema):
        pass
    text = tmp_path / "text.parquet"
    text.write_text("hello")
    with pytest.raises(OutputError, match="no table that can be read"), Output.open(text, table_schema):
        pass
    with pytest.raises(OutputError, match="must name a file"), Output.open(tmp_path, table_schema):
        pass
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.parquet", "scores.parquet", "text.parquet"]


def test_a_folder_of_parts_that_is_somebody_elses_is_left_alone(tmp_path: Path, table_schema: pa.Schema) -> None:
    path, folder = tmp_path / "scores.parquet", tmp_path / "scores.parquet.parts"
    folder.mkdir()
    for content in ([], ["00000000.parquet"]):
        for name in content:
            (folder / name).write_text("mine")
        with pytest.raises(OutputError, match="did not make the folder"), Output.open(path, table_schema, fresh=True):
            pass
        assert [entry.name for entry in folder.iterdir()] == content


def test_what_others_put_into_the_folder_of_parts_stays(tmp_path: Path, table_schema: pa.Schema) -> None:
    path, folder = tmp_path / "scores.parquet", tmp_path / "scores.parquet.parts"
    with Output.open(path, table_schema) as output:
        output.add(rows(["a"], table_schema))
        output.flush()
        (folder / "mine.txt").write_text("mine")
        output.finish()
    assert (folder / "mine.txt").read_text() == "mine"
    with Output.open(path, table_schema) as output:
        assert output.done() == {"a"}


def test_two_writers_do_not_meet(tmp_path: Path, table_schema: pa.Schema) -> None:
    path = tmp_path / "scores.parquet"
    with (
        Output.open(path, table_schema),
        pytest.raises(OutputError, match="another process writes"),
        Output.open(path, table_schema),
    ):
        pass


def test_fresh_begins_anew_and_again_takes_back_what_may_have_passed(tmp_path: Path, table_schema: pa.Schema) -> None:
    path = tmp_path / "scores.parquet"
    with Output.open(path, table_schema) as output:
        output.add(rows(["a"], table_schema))
        output.add(rows(["gone"], table_schema, "unreadable"))
        output.add(rows(["broken"], table_schema, "truncated"))
        output.finish()
        output.add(rows(["b"], table_schema, "timeout"))
        output.flush()
    with Output.open(path, table_schema) as output:
        assert output.done() == {"a", "gone", "broken", "b"}
        assert output.done(again=True) == {"a", "broken"}
        output.add(rows(["gone"], table_schema))
        output.flush()
        assert output.done(again=True) == {"a", "broken", "gone"}
        assert output.finish().filter(pc.field("image") == "gone")["error"].to_pylist() == [None]
    with Output.open(path, table_schema, fresh=True) as output:
        assert output.done() == set()
        assert output.finish().num_rows == 0


def test_what_was_added_is_kept_when_the_run_breaks_off(tmp_path: Path, table_schema: pa.Schema) -> None:
    path = tmp_path / "scores.parquet"
    with suppress(Killed), Output.open(path, table_schema) as output:
        output.add(rows(["a"], table_schema))
        raise Killed
    assert not path.exists()
    with Output.open(path, table_schema) as output:
        assert output.done() == {"a"}

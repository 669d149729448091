"""Scores the images of the inputs into a table with one row per image; resumes an earlier run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from aiderm_scorer.inputs import Listing
from aiderm_scorer.items import Item
from aiderm_scorer.lesions import write_lesions
from aiderm_scorer.output import Output
from aiderm_scorer.progress import Meter
from aiderm_scorer.score_rows import schema
from aiderm_scorer.scoring_model import Model

CHUNK = 32
"""Images that go to a process at once: enough that handing them out costs little, and few enough to repeat if it is lost."""


class LostError(RuntimeError):
    """An executor returned no row for some images."""


class ChunkScorer(Protocol):
    """Assesses chunks of items somewhere; tables come as chunks are finished."""

    def __call__(
        self, chunks: Sequence[Sequence[Item]], model: Model, table_schema: pa.Schema
    ) -> AbstractContextManager[Iterator[pa.Table]]:
        """Assesses while the block runs."""
        ...


@dataclass
class Summary:
    """What a run did, and what the table holds.

    Attributes:
        rows: of the whole table.
        added: rows added in this run.
        seconds: duration of this run.
        decisions: number of each in the whole table.
        errors: number of each in the whole table.
        lesions: number of each decision and error among lesions; None if no list names any.
    """

    rows: int
    added: int
    seconds: float
    decisions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lesions: Counter[str] | None = None


def score(
    listing: Listing, model: Model, out: Path, executor: ChunkScorer, *, fresh: bool = False, again: bool = False,
    console: Console | None = None,
) -> Summary:  # fmt: skip
    """Scores the images that have no row in ``out`` yet.

    Args:
        listing: the images of the inputs.
        model: a verified bundle.
        out: the Parquet file; it appears, or is replaced, once every image has its row.
        executor: assesses the images.
        fresh: discard an existing table.
        again: also score images whose error may have passed.
        console: where progress is printed.

    Raises:
        OutputError: the existing output cannot be resumed.
        WorkerProcessError, ClusterError: the executor cannot assess images.
        LostError: some images got no row.
    """
    console = console or Console(stderr=True)
    table_schema = schema(model.manifest, model.precision, model.limits)
    with Output.open(out, table_schema, fresh=fresh) as output:
        there = output.done(again)
        left = [item for item in listing.items if item.image not in there]
        console.print(
            f"{len(listing.items):,} images, {len(listing.items) - len(left):,} of them scored already", highlight=False
        )
        meter = Meter(len(left), console)
        if left:
            chunks = [left[start : start + CHUNK] for start in range(0, len(left), CHUNK)]
            with executor(chunks, model, table_schema) as tables, meter.shown():
                for table in _without_repeats(tables, {item.image for item in left}):
                    output.add(table)
                    meter.add(table.num_rows, table.num_rows - table["error"].null_count)
        rate = meter.rate
        whole = output.finish()
        summary = Summary(
            whole.num_rows, meter.done, meter.done / rate if rate else 0.0, _counts(whole["decision"]), _counts(whole["error"])
        )
        lesion_of = {item.image: item.lesion for item in listing.items if item.lesion is not None}
        if lesion_of:
            lesions = write_lesions(out, whole, lesion_of, model.manifest)
            summary.lesions = _counts(lesions["decision"]) + _counts(lesions["error"])
        return summary


def _without_repeats(tables: Iterator[pa.Table], expected: set[str]) -> Iterator[pa.Table]:
    """Yields each expected row once, even if some were scored twice; raises an error if any is missing."""
    for table in tables:
        new = [name in expected for name in table["image"].to_pylist()]
        expected.difference_update(table["image"].to_pylist())
        if any(new):
            yield table if all(new) else table.filter(pa.array(new))
    if expected:
        raise LostError(f"{len(expected):,} images got no row, such as {min(expected)}. Run the same command to try them again")


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()})

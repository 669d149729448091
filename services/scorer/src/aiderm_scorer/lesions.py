"""Writes the table of lesions: one row for all images that a list assigns to the same lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aiderm_core import files
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.combine import QUALITY, View, combine, copies
from aiderm_core.prefetch import batched
from aiderm_scorer.output import PASSING
from aiderm_scorer.score_rows import METADATA

Row = Mapping[str, Any]
_ROWS = 10_000  # held as Python objects at a time


def lesions_path(out: Path) -> Path:
    """Path of the lesion table for the table ``out``: ``scores.lesions.parquet`` beside ``scores.parquet``."""
    return out.with_name(f"{out.stem}.lesions{out.suffix}")


def write_lesions(out: Path, scores: pa.Table, lesion_of: Mapping[str, str], manifest: Manifest) -> pa.Table:
    """Writes the table of lesions beside the table of scores, sorted by lesion.

    Args:
        out: path of the table of scores.
        scores: one row for each image, see ``score_rows.schema``.
        lesion_of: the lesion of each image; images that are not in it belong to none.
        manifest: of the model that assessed the images.

    Returns:
        The table. A lesion with an ``error`` has no decision. Each probability comes with the threshold, the uncertain band
        and the prevalence that it assumes; ``higher`` and ``lower`` name the images that disagree. Of several copies of a
        file, only the first counts.
    """
    wanted = _schema(manifest, scores.schema.metadata[METADATA])
    kept = scores.select([name for name in scores.column_names if name in {*wanted.names, "image", "sha256"}])
    named = kept.append_column("lesion", pa.array([lesion_of.get(image) for image in kept["image"].to_pylist()], pa.string()))
    ordered = named.filter(pc.is_valid(named["lesion"])).sort_by([("lesion", "ascending"), ("image", "ascending")])
    images = (row for batch in ordered.to_batches(_ROWS) for row in batch.to_pylist())
    answers = (_row(lesion, list(rows), manifest) for lesion, rows in groupby(images, key=itemgetter("lesion")))
    tables = [pa.Table.from_pylist(part, schema=wanted) for part in batched(answers, _ROWS)]
    table = pa.concat_tables(tables) if tables else wanted.empty_table()
    with files.replacing(lesions_path(out)) as file:
        pq.write_table(table, file, compression="zstd")
    return table


def _schema(manifest: Manifest, about: bytes) -> pa.Schema:
    text, number, texts = pa.string(), pa.float64(), pa.list_(pa.string())
    columns = [
        ("lesion", text), ("images", texts), ("counted", texts), ("error", text), ("decision", text), ("reasons", texts),
        ("malignancy", number), ("threshold", number), ("uncertain_low", number), ("uncertain_high", number),
        ("prevalence", number), *((f"class_{label.id}", number) for label in manifest.labels),
        ("log_odds_sd", number), ("malignancy_lowest", number), ("malignancy_highest", number),
        ("higher", texts), ("lower", texts), ("model", text), ("model_version", text), ("precision", text),
    ]  # fmt: skip
    return pa.schema(columns, metadata={METADATA: about})


def _row(lesion: str, images: Sequence[Row], manifest: Manifest) -> dict[str, Any]:
    """Combines a lesion's images. If a second try may score another one, there is no answer, as that image might change it."""
    names = [row["image"] for row in images]
    about = {"lesion": lesion, "images": names, **{key: images[0][key] for key in ("model", "model_version", "precision")}}
    errors = [row["error"] for row in images if row["error"] is not None]
    passing = [error for error in errors if error in PASSING]
    if passing or len(errors) == len(images):
        return about | {"error": (passing or errors)[0]}
    assessed = next(row for row in images if row["error"] is None)
    band = (assessed["uncertain_low"], assessed["uncertain_high"])
    sensitivity = manifest.decision.target_sensitivity  # is not used in a decision
    rule = DecisionRule(threshold=assessed["threshold"], target_sensitivity=sensitivity, uncertain=band)
    twice = copies([row["sha256"] for row in images])
    views = [None if index in twice else _view(row, manifest) for index, row in enumerate(images)]
    answer = combine(views, manifest, rule)
    spread, disagreement = answer.spread, answer.disagreement
    classes = [None] * len(manifest.labels) if answer.probabilities is None else answer.probabilities.tolist()
    return about | {
        "counted": [names[index] for index in answer.counted],
        "decision": answer.verdict.decision.value,
        "reasons": [reason.code for reason in answer.verdict.reasons],
        "malignancy": answer.malignancy,
        **{name: assessed[name] for name in ("threshold", "uncertain_low", "uncertain_high", "prevalence")},
        **{f"class_{label.id}": value for label, value in zip(manifest.labels, classes, strict=True)},
        "log_odds_sd": spread and spread.log_odds_sd,
        "malignancy_lowest": spread and spread.probability[0],
        "malignancy_highest": spread and spread.probability[1],
        "higher": disagreement and [names[index] for index in disagreement.higher],
        "lower": disagreement and [names[index] for index in disagreement.lower],
    }


def _view(row: Row, manifest: Manifest) -> View | None:
    if row["malignancy"] is None:
        return None
    probabilities = np.array([row[f"class_{label.id}"] for label in manifest.labels])
    return View(probabilities, row["malignancy"], QUALITY in row["reasons"])

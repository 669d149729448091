"""Defines the table of scores: its schema, and a row for each image, whether it was assessed or not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from aiderm_core import DISCLAIMER
from aiderm_core.assess import ImageAssessment
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.decision import Decision
from aiderm_core.imaging.limits import Limits
from aiderm_core.quality import measurements
from aiderm_core.runtime import Precision
from aiderm_scorer.items import Item, ItemProblem

METADATA = b"aiderm"
NO_IMAGE = frozenset({"unsupported_type", "empty_file", "undecodable"})
Row = dict[str, Any]


def schema(manifest: Manifest, precision: Precision, limits: Limits) -> pa.Schema:
    """The table's columns for a model, with what the scores depend on in the schema's metadata.

    If an image was assessed, ``error`` is null and ``decision`` is not. A rejected image has no probability. Each probability
    comes with the threshold, the uncertain band and the prevalence that it assumes.
    """
    repeated = pa.dictionary(pa.int32(), pa.string())
    text, number, whole = pa.string(), pa.float64(), pa.int32()  # full precision, so that comparing gives the same decision
    columns = [
        ("image", text), ("listed", text), ("error", text), ("error_detail", text),
        ("decision", text), ("reasons", pa.list_(text)),
        ("malignancy", number), ("threshold", number), ("uncertain_low", number), ("uncertain_high", number),
        ("prevalence", number), *((f"class_{label.id}", number) for label in manifest.labels),
        ("novelty", number), ("novelty_limit", number),
        *((f"quality_{metric}", number) for metric in measurements.METRICS), ("warnings", pa.list_(text)),
        ("format", text), ("width", whole), ("height", whole), ("notes", pa.list_(text)),
        ("region_x", whole), ("region_y", whole), ("region_width", whole), ("region_height", whole),
        ("bytes", pa.int64()), ("sha256", text), ("model", repeated), ("model_version", repeated), ("precision", repeated),
    ]  # fmt: skip
    about = {
        "model": manifest.name,
        "version": manifest.version,
        "manifest": hashlib.sha256(manifest.dump().encode()).hexdigest(),
        "precision": precision,
        "limits": {"max_bytes": limits.max_bytes, "max_pixels": limits.max_pixels, "min_side": limits.min_side},
        "data_licence": manifest.data.licence,
        "disclaimer": DISCLAIMER,
    }
    return pa.schema(columns, metadata={METADATA: json.dumps(about).encode()})


def about(table_schema: pa.Schema) -> dict[str, Any]:
    """What the scores of a table depend on; empty if it is not a table of scores."""
    metadata = (table_schema.metadata or {}).get(METADATA)
    return dict(json.loads(metadata)) if metadata else {}


def assessed(
    item: Item, data: bytes, found: ImageAssessment, manifest: Manifest, rule: DecisionRule, precision: Precision
) -> Row:
    """The row of an image that was assessed."""
    rejected = found.verdict.decision is Decision.REJECTED
    low, high = rule.uncertain
    region = found.region
    probabilities = [None] * len(manifest.labels) if rejected else [float(value) for value in found.probabilities]
    return _about_file(item, data) | {
        "decision": found.verdict.decision.value,
        "reasons": [reason.code for reason in found.verdict.reasons],
        "malignancy": None if rejected else found.malignancy,
        "threshold": rule.threshold,
        "uncertain_low": low,
        "uncertain_high": high,
        "prevalence": manifest.calibration.prevalence,
        **{f"class_{label.id}": value for label, value in zip(manifest.labels, probabilities, strict=True)},
        "novelty": found.novelty,
        "novelty_limit": manifest.novelty.limit,
        **{f"quality_{metric}": value for metric, value in found.measures.items()},
        "warnings": [warning.code for warning in found.warnings],
        "format": found.image.format,
        "width": found.image.width,
        "height": found.image.height,
        "notes": list(found.image.notes),
        "region_x": region.x,
        "region_y": region.y,
        "region_width": region.width,
        "region_height": region.height,
        "model": manifest.name,
        "model_version": manifest.version,
        "precision": precision,
    }


def failed(item: Item, problem: ItemProblem, manifest: Manifest, precision: Precision, data: bytes | None = None) -> Row:
    """The row of an image that could not be assessed.

    It contains the size and checksum of the bytes only if they are an image's; otherwise lists could ask about any file.
    """
    if problem.code in NO_IMAGE:
        data = None
    about_file: Row = {"image": item.image, "listed": item.listed} if data is None else _about_file(item, data)
    about_model = {"model": manifest.name, "model_version": manifest.version, "precision": precision}
    return about_file | {"error": problem.code, "error_detail": problem.detail} | about_model


def _about_file(item: Item, data: bytes) -> Row:
    digest = hashlib.sha256(data).hexdigest()
    return {"image": item.image, "listed": item.listed, "bytes": len(data), "sha256": digest}


def to_table(rows: Sequence[Row], table_schema: pa.Schema) -> pa.Table:
    """Rows as a table; columns that a row lacks are null."""
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in table_schema]
    return pa.Table.from_arrays(columns, schema=table_schema)

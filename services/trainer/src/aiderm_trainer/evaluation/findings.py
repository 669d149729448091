"""Examines a bundle beyond its metrics: domains, subgroups, artefacts, orientations, outlines and close-ups."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import assessed_region, crop
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import skin_tone
from aiderm_trainer.evaluation.bootstrap import REPLICATES, SEED
from aiderm_trainer.evaluation.cohorts import cohort, decisions, main_split
from aiderm_trainer.evaluation.domain_metrics import DomainReport, measure_domains
from aiderm_trainer.evaluation.learning_curve import CurvePoint
from aiderm_trainer.evaluation.metadata import Record, read_metadata
from aiderm_trainer.evaluation.orientation import OrientationReport, measure_orientations
from aiderm_trainer.evaluation.out_of_distribution import OutOfDistribution, measure_out_of_distribution
from aiderm_trainer.evaluation.outline_agreement import OutlineReport, find_outlines, measure_outlines, read_outline
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import DECODERS, ScoredSplit, Scores
from aiderm_trainer.evaluation.stress import Stress, measure_stress
from aiderm_trainer.evaluation.subgroups import Subgroup, subgroups

# Body sites, in the words that public tables use.
_ACRAL = frozenset({"acral", "hand", "foot", "palm", "sole", "palms/soles", "palms", "soles"})
_MUCOSAL = frozenset({"genital", "oral", "oral/genital", "mucosa", "lip"})
_NAIL = frozenset({"nail"})


class Held(ReportPart):
    """Number of images of one kind in one part of the split; ``known`` counts the images whose metadata tell their kind."""

    side: str
    kind: str
    known: int
    images: int
    malignant: int
    melanoma: int


class Findings(ReportPart):
    """Results of the examinations; those that were not requested are None or empty.

    Attributes:
        domains: metrics on biopsied lesions, within each domain, and of the camera; always examined.
        subgroups: always examined, as far as the metadata allow.
        held: counts of rare kinds of images.
        stress: answers with and without artefacts.
        orientations: answers for turned and mirrored images.
        outlines: heatmap against outlines, and the lesion painted over.
        close_ups: photographs taken without a dermatoscope.
        left_out: domain -> metric -> value of models that were trained without that domain.
        learning_curve: learning curve of ``recalibrate`` on domains that were left out.
    """

    domains: DomainReport | None = None
    subgroups: list[Subgroup] = Field(default_factory=list)
    held: list[Held] = Field(default_factory=list)
    stress: Stress | None = None
    orientations: OrientationReport | None = None
    outlines: OutlineReport | None = None
    close_ups: OutOfDistribution | None = None
    left_out: dict[str, dict[str, Metric]] = Field(default_factory=dict)
    learning_curve: list[CurvePoint] = Field(default_factory=list)

    def metrics(self) -> dict[str, dict[str, Metric]]:
        """The figures that the manifest repeats: ``SPLIT/biopsied``, ``SPLIT/domain=NAME``, ``SPLIT/stress=NAME`` and others."""
        out = self.domains.metrics() if self.domains else {}
        if self.stress is not None:
            out |= {f"{self.stress.split}/stress={name}": of for name, of in self.stress.artefacts.items()}
        if self.orientations is not None:
            out[f"{self.orientations.split}/orientations"] = self.orientations.metrics
        if self.outlines is not None:
            out[f"{self.outlines.split}/outlines"] = self.outlines.metrics
            out |= {f"{self.outlines.split}/outlines/domain={name}": of for name, of in self.outlines.domains.items()}
        return out


@dataclass(frozen=True)
class FindingsRequest:
    """What to examine.

    Attributes:
        metadata: CSV table with ``path`` and any of age, sex, localization, collection, dx_type, domain.
        stress: whether to add artefacts, and to rotate and mirror the images.
        stress_images: at most this many images for each of the two tests; all when None.
        outlines: folder of lesion outlines, NAME.png for each image NAME.
        close_ups: folder of ordinary photographs of skin, not taken with a dermatoscope.
        left_out: JSON file, domain -> metric -> {value, ci95}: models that were trained without that domain and tested on it.
        learning_curve: JSON file that ``aiderm-train learning-curve`` wrote.
    """

    metadata: Path | None = None
    stress: bool = False
    stress_images: int | None = None
    outlines: Path | None = None
    close_ups: Path | None = None
    left_out: Path | None = None
    learning_curve: Path | None = None


METRICS_ONLY = FindingsRequest()
NO_FINDINGS = Findings()


def investigate(
    runtime: Runtime,
    scores: Scores,
    root: Path,
    manifest: Manifest,
    request: FindingsRequest = METRICS_ONLY,
    learnt: Sequence[Row] = (),
    replicates: int = REPLICATES,
    seed: int = SEED,
    *,
    progress: bool = True,
) -> Findings:
    """Runs the examinations in ``request`` on ``test``, or else on the first split that was scored.

    Args:
        runtime: the bundle's graph.
        scores: its answers.
        root: folder that the rows' paths are relative to.
        manifest: the bundle's manifest.
        request: what to examine.
        learnt: the rows that the model was trained on, to count rare kinds of images among them.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.
        progress: whether to draw bars on standard error.

    Raises:
        ValueError: a table, folder or file that does not fit; see the functions of the single examinations.
    """
    split = main_split(sorted({row.split or "test" for row in scores.rows}))
    index = np.array([i for i, row in enumerate(scores.rows) if (row.split or "test") == split], np.intp)
    tested = scores.take(index)
    outlines = find_outlines(request.outlines, tested.rows) if request.outlines else {}
    known = read_metadata(request.metadata, [*tested.rows, *learnt]) if request.metadata else {}
    records = [known.get(row.path, Record()) for row in tested.rows]
    domains = [domain_of(row, record) for row, record in zip(tested.rows, records, strict=True)]
    biopsied = [biopsied_of(row, record) for row, record in zip(tested.rows, records, strict=True)]
    tones = _skin_tones(tested.rows, root, manifest, outlines)
    of = cohort(tested, manifest, decisions(tested, manifest), np.arange(len(index)))
    drawing: dict[str, Any] = {"replicates": replicates, "seed": seed}
    turned = {"images": request.stress_images, "progress": progress, **drawing}
    examined = ScoredSplit(runtime, tested, root, manifest, split)
    return Findings(
        domains=measure_domains(of, domains, biopsied, manifest, split, **drawing),
        subgroups=subgroups(of, _families(tested.rows, records, tones), manifest.decision.threshold, replicates, seed),
        held=[
            *_held(split, tested.rows, known),
            *_held_tones(split, tested.rows, tones),
            *(_held("train", learnt, known) if learnt else ()),
        ],
        stress=measure_stress(examined, **turned) if request.stress else None,
        orientations=measure_orientations(examined, **turned) if request.stress else None,
        outlines=measure_outlines(examined, outlines, biopsied, domains, **drawing) if outlines else None,
        close_ups=measure_out_of_distribution(runtime, tested, manifest, request.close_ups, **drawing)
        if request.close_ups
        else None,
        left_out=read_left_out(request.left_out) if request.left_out else {},
        learning_curve=read_learning_curve(request.learning_curve) if request.learning_curve else [],
    )


def domain_of(row: Row, record: Record) -> str:
    """The row's domain: the first that is known of the table's domain, its collection, the split's domain and the source."""
    return record.domain or record.collection or row.domain or row.source


def biopsied_of(row: Row, record: Record) -> bool | None:
    """Whether the lesion was biopsied, as the split or the table says; None where neither does."""
    return record.biopsied if row.biopsied is None else row.biopsied


def read_left_out(file: Path) -> dict[str, dict[str, Metric]]:
    """Reads results of models trained without a domain: domain -> metric -> {value, ci95}.

    Raises:
        ValueError: the file is not of that form.
    """
    try:
        return TypeAdapter(dict[str, dict[str, Metric]]).validate_json(file.read_bytes())
    except (ValidationError, json.JSONDecodeError) as error:
        raise ValueError(f'{file} must hold {{"DOMAIN": {{"METRIC": {{"value": 0.9, "ci95": [0.8, 1.0]}}}}}}: {error}') from error


def read_learning_curve(file: Path) -> list[CurvePoint]:
    """Reads the output of ``aiderm-train learning-curve``.

    Raises:
        ValueError: the file is not of that form.
    """
    try:
        return TypeAdapter(list[CurvePoint]).validate_json(file.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{file} is no output of aiderm-train learning-curve: {error}") from error


def _skin_tones(rows: Sequence[Row], root: Path, manifest: Manifest, files: Mapping[str, Path]) -> list[str]:
    """The skin-tone band of each row; empty where too little skin is visible."""
    geometry = manifest.input.geometry

    def one(row: Row) -> str:
        pixels = decode_image((root / row.path).read_bytes()).pixels
        height, width = pixels.shape[:2]
        square = np.ascontiguousarray(crop(pixels, assessed_region(width, height, geometry)))
        outline = read_outline(files[row.path], width, height, geometry) if row.path in files else None
        angle = skin_tone.measure(square, outline)
        return "" if angle is None else skin_tone.band(angle)

    with ThreadPoolExecutor(DECODERS, thread_name_prefix="skin") as pool:
        return list(pool.map(one, rows))


def _families(rows: Sequence[Row], records: Sequence[Record], tones: Sequence[str]) -> dict[str, list[str]]:
    return {
        "source": [row.source for row in rows],
        "skin tone": list(tones),
        "age": [record.age_band for record in records],
        "sex": [record.sex for record in records],
        "body site": [record.localization for record in records],
        "sub-collection": [record.collection for record in records],
        "label made by": [record.dx_type for record in records],
    }


def _held(side: str, rows: Sequence[Row], known: Mapping[str, Record]) -> list[Held]:
    """Counts children and rare body sites among the rows that have such metadata."""
    records = {row.path: known.get(row.path, Record()) for row in rows}
    aged = [row for row in rows if records[row.path].age is not None]
    placed = [row for row in rows if records[row.path].localization]
    out = []
    if aged:
        out.append(_count(side, "children (under 18)", len(aged), [r for r in aged if records[r.path].age_band == "under 18"]))
    if placed:
        for kind, sites in (("hands, feet, palms, soles", _ACRAL), ("genital or mucosal", _MUCOSAL), ("nail", _NAIL)):
            out.append(_count(side, kind, len(placed), [r for r in placed if records[r.path].localization in sites]))
    return out


def _held_tones(side: str, rows: Sequence[Row], tones: Sequence[str]) -> list[Held]:
    seen = Counter(tone for tone in tones if tone)
    total = sum(seen.values())
    return [
        _count(side, f"skin tone: {name}", total, [row for row, tone in zip(rows, tones, strict=True) if tone == name])
        for _, name in skin_tone.BANDS
        if total
    ]


def _count(side: str, kind: str, known: int, rows: Sequence[Row]) -> Held:
    return Held(
        side=side,
        kind=kind,
        known=known,
        images=len(rows),
        malignant=sum(bool(row.malignant) for row in rows),
        melanoma=sum(row.dx == "mel" for row in rows),
    )

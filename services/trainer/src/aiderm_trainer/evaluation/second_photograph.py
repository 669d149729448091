"""Measures whether a second photograph of a lesion changes the decision, and whether an answer for two photographs is steadier.

Two kinds of second photographs are used: random views of one image that simulate another framing, light, focus and file; and
real photographs of one lesion, without copies of one photograph in another crop or file.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_core.combine import QUALITY, View, combine
from aiderm_core.decision import Decision, decide
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.prefetch import batched, prefetch
from aiderm_core.quality import measurements
from aiderm_core.quality.measurements import warnings as quality_warnings
from aiderm_core.runtime import Outputs, Runtime
from aiderm_trainer.data.augment import Augmentation, augment
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import DECODERS, Scores, score_bundle

VIEWS: Final = 4  # per image: two pairs without a view in common
# What differs between two photographs of one lesion. Hair, rulers and ink stay as they are in the image.
AUGMENTATION: Final = Augmentation(aspect=1.0, artefacts=0.0, hair=0.0, border=0.0)
SAME_PHOTOGRAPH: Final = 0.95  # images with at least this ``likeness`` are copies of one photograph
SEED: Final = 20_251_128
SAMPLE_SEED: Final = 1
_BATCH: Final = 16
_THUMBNAIL: Final = 64

DEFINITIONS: Final = {
    "replaced": "decisions that a second photograph changes when it is assessed instead of the first",
    "added": "decisions that a second photograph changes when it is added to the first",
    "pairs": "decisions on two photographs that another two change",
    "replaced_low": "low suspicion on one photograph and not on the other",
    "added_low": "low suspicion on one photograph and not on both together, or the reverse",
    "pairs_low": "low suspicion on two photographs and not on another two",
    "replaced_sides": "low suspicion on one photograph and suspicious on the other",
    "added_sides": "low suspicion on one photograph and suspicious on both together, or the reverse",
    "pairs_sides": "low suspicion on two photographs and suspicious on another two",
    "added_ratio": "changed by adding a photograph, over changed by replacing it",
    "pairs_ratio": "changed by another two photographs, over changed by replacing one",
    "malignant_low_one": "malignant lesions with low suspicion, by one photograph",
    "malignant_low_two": "malignant lesions with low suspicion, by two photographs",
    "benign_low_one": "benign lesions with low suspicion, by one photograph",
    "benign_low_two": "benign lesions with low suspicion, by two photographs",
    "uncertain_one": "uncertain, by one photograph",
    "uncertain_two": "uncertain, by two photographs",
}


class SecondPhotographs(ReportPart):
    """How a second photograph changes the answers.

    Attributes:
        lesions: groups of images.
        malignant: how many of them are malignant.
        photographs: number of photographs of all lesions.
        metrics: see ``DEFINITIONS``, with intervals over lesions; ``pairs`` only if a lesion has four photographs.
    """

    lesions: int
    malignant: int
    photographs: int
    metrics: dict[str, Metric]


class SecondPhotographStudy(ReportPart):
    """Results for one bundle. ``views``: of validation images; ``real``: None if no lesion has two photographs."""

    model: str
    version: str
    views: SecondPhotographs
    real: SecondPhotographs | None


@dataclass(frozen=True)
class PhotographedLesion:
    """A lesion with at least two photographs; None stands for a rejected photograph."""

    group: str
    malignant: bool
    photographs: Sequence[View | None]


def measure_second_photographs(
    runtime: Runtime, manifest: Manifest, rows: Sequence[Row], root: Path, *, images: int | None, replicates: int, seed: int
) -> SecondPhotographStudy:
    """Runs the study on views of validation images, and on real photographs of lesions outside the training rows.

    Args:
        runtime: the bundle's graph.
        manifest: the bundle's manifest.
        rows: all rows of the split.
        root: folder of the images.
        images: at most this many lesions of the validation rows, drawn at random with a fixed seed; all when None.
        replicates: bootstrap resamples of lesions.
        seed: seed of the resampling.

    Raises:
        ValueError: there are no validation rows.
        ScoringError: images that cannot be scored.
    """
    validation = [row for row in rows if row.split == "validation"]
    if not validation:
        raise ValueError("second photographs are measured on validation rows, and there are none")
    random.Random(SAMPLE_SEED).shuffle(validation)  # noqa: S311  (no secret)
    one_each: dict[str, Row] = {}
    for row in validation:
        one_each.setdefault(row.group, row)
    views = _view_lesions(runtime, manifest, list(one_each.values())[:images], root)
    real = _real_lesions(runtime, manifest, [row for row in rows if row.split != "train"], root)
    return SecondPhotographStudy(
        model=manifest.name,
        version=manifest.version,
        views=compare_photographs(views, manifest, replicates, seed),
        real=compare_photographs(real, manifest, replicates, seed) if real else None,
    )


def compare_photographs(
    lesions: Sequence[PhotographedLesion], manifest: Manifest, replicates: int, seed: int
) -> SecondPhotographs:
    """Computes the metrics of ``DEFINITIONS``; each lesion counts once, with the mean over its photographs and their pairs.

    If the decisions on two photographs differ, the decision on both together differs from at least one of them, so ``added``
    is at least half of ``replaced``, whatever the rule.
    """
    by_lesion = [_changes(lesion.photographs, manifest) for lesion in lesions]
    malignant = np.array([lesion.malignant for lesion in lesions])
    names = dict.fromkeys(name for found in by_lesion for name in found)
    values = {name: np.array([found.get(name, np.nan) for found in by_lesion]) for name in names}

    def statistic(weights: metrics.Floats) -> Mapping[str, metrics.Floats]:
        def mean(name: str, among: NDArray[np.bool_]) -> metrics.Floats:
            known = among & np.isfinite(values[name])
            return metrics.ratio(weights @ np.where(known, values[name], 0.0), weights @ known.astype(np.float64))

        everyone = np.ones_like(malignant)
        found = {name: mean(name, everyone) for name in values if not name.startswith("low_")}
        for ratio, name in (("added_ratio", "added"), ("pairs_ratio", "pairs")):
            if name in found:
                found[ratio] = metrics.ratio(found[name], found["replaced"])
        for number in ("one", "two"):
            found[f"malignant_low_{number}"] = mean(f"low_{number}", malignant)
            found[f"benign_low_{number}"] = mean(f"low_{number}", ~malignant)
        return found

    trials = {name: int(np.isfinite(shares).sum()) for name, shares in values.items()}
    trials |= {
        f"{label}_low_{number}": int(among.sum())
        for label, among in (("malignant", malignant), ("benign", ~malignant))
        for number in ("one", "two")
    }
    found = bootstrap([lesion.group for lesion in lesions], statistic, replicates, seed)
    return SecondPhotographs(
        lesions=len(lesions),
        malignant=int(malignant.sum()),
        photographs=sum(len(lesion.photographs) for lesion in lesions),
        metrics={
            name: (found[name] if name.endswith("_ratio") else found[name].of_trials(trials[name])).metric()
            for name in DEFINITIONS
            if name in found
        },
    )


def _changes(photographs: Sequence[View | None], manifest: Manifest) -> dict[str, float]:
    """Computes the shares for one lesion, over its photographs, their pairs, and disjoint pairs of pairs."""

    def answer(*indices: int) -> Decision:
        return combine([photographs[i] for i in indices], manifest, manifest.decision).verdict.decision

    one = [answer(i) for i in range(len(photographs))]
    two = {pair: answer(*pair) for pair in combinations(range(len(photographs)), 2)}
    compared = {
        "replaced": [(one[i], one[j]) for i, j in two],
        "added": [(one[i], both) for pair, both in two.items() for i in pair],
        "pairs": [(two[p], two[q]) for p, q in combinations(two, 2) if not set(p) & set(q)],
    }
    low = Decision.LOW_SUSPICION
    sides = {low, Decision.SUSPICIOUS}
    found: dict[str, float] = {}
    for name, both in compared.items():
        if both:
            found[name] = float(np.mean([first != second for first, second in both]))
            found[f"{name}_low"] = float(np.mean([(first is low) != (second is low) for first, second in both]))
            found[f"{name}_sides"] = float(np.mean([set(each) == sides for each in both]))
    for number, said in (("one", one), ("two", list(two.values()))):
        found[f"low_{number}"] = float(np.mean([each is low for each in said]))
        found[f"uncertain_{number}"] = float(np.mean([each is Decision.UNCERTAIN for each in said]))
    return found


def _view_lesions(runtime: Runtime, manifest: Manifest, rows: Sequence[Row], root: Path) -> list[PhotographedLesion]:
    size = manifest.input.size

    def load(job: tuple[Row, int]) -> tuple[NDArray[np.uint8], dict[str, float]]:
        row, number = job
        image = decode_image((root / row.path).read_bytes(), size=size)
        square = to_model_input(image.pixels, size, manifest.input.geometry)
        view = augment(square, np.random.default_rng([SEED, int(row.sha256[:8], 16), number]), AUGMENTATION)
        return view, measurements.measure(view, resolution=min(image.width, image.height))

    jobs = [(row, number) for row in rows for number in range(VIEWS)]
    found: list[View | None] = []
    for batch in batched(prefetch(load, jobs, workers=DECODERS, ahead=2 * _BATCH), _BATCH):
        outputs = runtime.run(np.stack([pixels for pixels, _ in batch]))
        found.extend(_views(outputs, [measures for _, measures in batch], manifest))
    return [
        PhotographedLesion(row.group, bool(row.malignant), found[start : start + VIEWS])
        for row, start in zip(rows, range(0, len(found), VIEWS), strict=True)
    ]


def _real_lesions(runtime: Runtime, manifest: Manifest, rows: Sequence[Row], root: Path) -> list[PhotographedLesion]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    several = {group: different_photographs(members, root) for group, members in sorted(groups.items()) if len(members) > 1}
    chosen = {group: members for group, members in several.items() if len(members) > 1}
    if not chosen:
        return []
    scores = score_bundle(runtime, manifest.input, [row for members in chosen.values() for row in members], root, progress=False)
    views = iter(_views(scores, scores.measures, manifest))
    return [
        PhotographedLesion(group, bool(members[0].malignant), [next(views) for _ in members]) for group, members in chosen.items()
    ]


def _views(outputs: Outputs | Scores, measures: Sequence[Mapping[str, float]], manifest: Manifest) -> list[View | None]:
    found: list[View | None] = []
    for probability, p, d, measured in zip(outputs.probability, outputs.malignancy, outputs.novelty, measures, strict=True):
        verdict = decide(float(p), float(d), measured, quality_warnings(measured, manifest.quality), manifest)
        doubtful = any(reason.code == QUALITY for reason in verdict.reasons)
        found.append(None if verdict.decision is Decision.REJECTED else View(probability, float(p), doubtful))
    return found


def different_photographs(rows: Sequence[Row], root: Path) -> list[Row]:
    """Returns a lesion's images without copies of one photograph, ordered by path; the first copy is kept."""
    kept: list[tuple[Row, list[NDArray[np.float64]]]] = []
    for row in sorted(rows, key=lambda each: each.path):
        crops = _thumbnails(decode_image((root / row.path).read_bytes()).pixels)
        if all(likeness(crops, others) < SAME_PHOTOGRAPH for _, others in kept):
            kept.append((row, crops))
    return [row for row, _ in kept]


def likeness(first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]]) -> float:
    """The highest correlation of grey levels over the crops of two images and the eight orientations of one of them."""
    found = -1.0
    for one in first:
        for other in second:
            for turned in (np.rot90(image, turns) for turns in range(4) for image in (other, other[:, ::-1])):
                found = max(found, float(np.corrcoef(one.ravel(), turned.ravel())[0, 1]))
    return found


def _thumbnails(pixels: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Resizes the image, the middle 3/4 of its width and its centre square, because data sets squash or crop 4:3 images."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    side, eighth = min(height, width), width // 8
    top, left = (height - side) // 2, (width - side) // 2
    crops = (grey, grey[:, eighth : width - eighth], grey[top : top + side, left : left + side])
    return [cv2.resize(each, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float64) for each in crops]

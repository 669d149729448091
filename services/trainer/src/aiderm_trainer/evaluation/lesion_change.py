"""Evaluates ``aiderm_core.change``: how well it measures the change of a lesion, and what it refuses to compare.

Lesions are enlarged by known amounts and shown again from another camera position, in other light and focus, and compressed
again. Two such views of an unchanged lesion must not differ, and photographs of two lesions must be refused. Real photographs of
one lesion are compared too.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_core.change import LesionChange, Photograph, compare
from aiderm_core.decision import Decision, decide
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import Region, to_model_input
from aiderm_core.prefetch import prefetch
from aiderm_core.quality import measurements
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.augment import alter
from aiderm_trainer.data.growth import grown, taken_again
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.evaluation.outline_agreement import find_outlines, read_outline
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import DECODERS
from aiderm_trainer.evaluation.second_photograph import AUGMENTATION, SAMPLE_SEED, SEED, different_photographs

GROWTHS: Final = (0.0, 0.05, 0.1, 0.2, 0.4)
FALSE_GROWTH: Final = 10.0  # percent
DEFINITIONS: Final = {
    "comparable": "share of pairs that are compared",
    "error_median": "error of the growth in percentage points, median",
    "error_mean": "the same, mean",
    "error_p95": "the same, 95th percentile",
    "within_5": "share with an error of at most 5 percentage points",
    "covered": "share whose interval holds the true growth",
    "apart_10": "share with a growth beyond -10% to 10%",
    "growth_median": "growth in percent, median",
    "growth_spread": "growth in percent, 95th percentile of its size",
    "colour_median": "change of colour in CIELAB, median",
    "colour_p95": "the same, 95th percentile",
    "changed": "share that is called changed",
}


class ComparedPairs(ReportPart):
    """Results for pairs of one kind.

    Attributes:
        title: name of the kind.
        lesions: number of different lesions.
        pairs: number of pairs.
        obstacles: how often each obstacle was named.
        metrics: see ``DEFINITIONS``; all but ``comparable`` are over the pairs that were compared.
    """

    title: str
    lesions: int
    pairs: int
    obstacles: dict[str, int]
    metrics: dict[str, Metric]


class LesionChangeStudy(ReportPart):
    """Results for one bundle on one part of the split. ``kinds`` are in the order in which they are shown."""

    model: str
    version: str
    split: str
    kinds: list[ComparedPairs]


@dataclass(frozen=True)
class Pair:
    """Two photographs, the lesion of the first, and the growth in percent between them if it is known."""

    lesion: str
    earlier: Photograph
    later: Photograph
    truth: float | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of ``compare`` for a pair."""

    lesion: str
    truth: float | None
    found: LesionChange


def measure_lesion_change(
    runtime: Runtime, manifest: Manifest, rows: Sequence[Row], root: Path, outlines: Path, *, split: str, images: int | None
) -> LesionChangeStudy:
    """Runs the study on one part of the split.

    Args:
        runtime: the bundle's graph, which must draw outlines.
        manifest: the bundle's manifest.
        rows: rows of all parts.
        root: folder of the images.
        outlines: folder of drawn outlines NAME.png; only lesions that have one and lie inside their image are enlarged.
        split: which rows to use.
        images: at most this many lesions of each kind but the real photographs, drawn at random with a fixed seed; all when None.

    Raises:
        ValueError: there are no such rows.
        OutlineError: no row has an outline.
    """
    mine = [row for row in rows if row.split == split]
    if not mine:
        raise ValueError(f"there are no {split} rows")
    random.Random(SAMPLE_SEED).shuffle(mine)  # noqa: S311  (no secret)
    camera = _Camera(runtime, manifest, root)
    kinds = _grown_kinds(camera, mine, outlines, images)
    one_each = list({row.group: row for row in reversed(mine)}.values())[:images]
    views = {row.group: (camera.taken(row, 0), camera.taken(row, 1)) for row in one_each}
    again = [Pair(group, first, second, 0.0) for group, (first, second) in views.items()]
    kinds.append(_measured("two views of one image", again))
    for title, same in (("different lesions, one camera", True), ("different lesions, two cameras", False)):
        pairs = [
            Pair(row.group, views[row.group][0], views[other.group][1]) for row, other in _strangers(one_each, same_domain=same)
        ]
        kinds += [_measured(title, pairs)] if pairs else []
    for title, pairs in _real_pairs(camera, mine, root).items():
        kinds += [_measured(title, pairs)] if pairs else []
    return LesionChangeStudy(model=manifest.name, version=manifest.version, split=split, kinds=kinds)


class _Camera:
    """Simulates photographs of the images in a folder."""

    def __init__(self, runtime: Runtime, manifest: Manifest, root: Path) -> None:
        self._runtime, self._manifest, self._root = runtime, manifest, root

    def square(self, row: Row) -> NDArray[np.uint8]:
        image = decode_image((self._root / row.path).read_bytes())
        return to_model_input(image.pixels, self._manifest.input.size, self._manifest.input.geometry)

    def photograph(self, square: NDArray[np.uint8]) -> Photograph:
        side = len(square)
        outputs = self._runtime.run(square[None], "throughput")
        measured = measurements.measure(square, resolution=side)
        measured.pop("resolution")  # it is the size of the model's input, not of a photograph
        verdict = decide(float(outputs.malignancy[0]), float(outputs.novelty[0]), measured, (), self._manifest)
        outline = None if outputs.outline is None else outputs.outline[0]
        return Photograph(square, outline, Region(0, 0, side, side), measured, rejected=verdict.decision is Decision.REJECTED)

    def taken(self, row: Row, number: int) -> Photograph:
        rng = np.random.default_rng([SEED, int(row.sha256[:8], 16), number])
        return self.photograph(alter(taken_again(self.square(row), rng), rng, AUGMENTATION))

    def before_and_after(self, row: Row, lesion: NDArray[np.bool_], number: int) -> Pair:
        """Pairs the image in other light with a retake in which its lesion has grown by ``GROWTHS[number]``."""
        rng = np.random.default_rng([SEED, int(row.sha256[:8], 16), 100 + number])
        square = self.square(row)
        larger = grown(square, lesion, GROWTHS[number], rim=bool(rng.random() < 0.5))
        later = self.photograph(alter(taken_again(larger, rng), rng, AUGMENTATION))
        return Pair(row.group, self.photograph(alter(square, rng, AUGMENTATION)), later, 100 * GROWTHS[number])


def _grown_kinds(camera: _Camera, rows: Sequence[Row], folder: Path, images: int | None) -> list[ComparedPairs]:
    files = find_outlines(folder, rows)
    lesions: dict[str, tuple[Row, NDArray[np.bool_]]] = {}
    for row in (row for row in rows if row.path in files and row.group not in lesions):
        side = len(camera.square(row))
        lesion = read_outline(files[row.path], side, side, "center_square")
        if not (lesion[[0, -1]].any() or lesion[:, [0, -1]].any()):
            lesions[row.group] = row, lesion
        if len(lesions) == images:
            break
    outcomes = [
        _outcomes(camera.before_and_after(row, lesion, number) for row, lesion in lesions.values())
        for number in range(len(GROWTHS))
    ]
    every = [summed("synthetic growth, all", [each for kind in outcomes for each in kind])]
    return every + [summed(f"synthetic growth by {growth:.0%}", kind) for growth, kind in zip(GROWTHS, outcomes, strict=True)]


def _strangers(rows: Sequence[Row], *, same_domain: bool) -> Iterator[tuple[Row, Row]]:
    """Pairs each row with the next row of its own domain, or of another domain."""
    for index, row in enumerate(rows):
        others = (other for other in [*rows[index + 1 :], *rows[:index]] if (other.domain == row.domain) is same_domain)
        if (other := next(others, None)) is not None:
            yield row, other


def _real_pairs(camera: _Camera, rows: Sequence[Row], root: Path) -> Mapping[str, list[Pair]]:
    """Pairs different photographs of one lesion, by whether both come from one data set: some sets squash their images."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    found: dict[str, list[Pair]] = {"real photographs, one data set": [], "real photographs, two data sets": []}
    one_set, two_sets = found
    for group, members in sorted(groups.items()):
        chosen = different_photographs(members, root) if len(members) > 1 else []
        taken = [(row.source, camera.photograph(camera.square(row))) for row in chosen]
        for (source, earlier), (other, later) in combinations(taken, 2):
            found[one_set if source == other else two_sets].append(Pair(group, earlier, later))
    return found


def _outcomes(pairs: Iterator[Pair]) -> list[Outcome]:
    def judged(pair: Pair) -> Outcome:
        return Outcome(pair.lesion, pair.truth, compare(pair.earlier, pair.later))

    return list(prefetch(judged, pairs, workers=DECODERS, ahead=2 * DECODERS))


def _measured(title: str, pairs: Sequence[Pair]) -> ComparedPairs:
    return summed(title, _outcomes(iter(pairs)))


def summed(title: str, outcomes: Sequence[Outcome]) -> ComparedPairs:
    """Computes the metrics of one kind of pairs."""
    compared = [each for each in outcomes if not each.found.obstacles]
    found = _shares(outcomes, {"comparable": [not each.found.obstacles for each in outcomes]})
    if compared:
        changes = [(each.found.growth, each.found.colour) for each in compared]
        growth = np.array([size.value for size, _ in changes if size is not None])
        colour = np.array([shade.value for _, shade in changes if shade is not None])
        shares = {
            "apart_10": np.abs(growth) > FALSE_GROWTH,
            "changed": np.array([bool(each.found.changed) for each in compared]),
        }
        quantiles = {
            "growth_median": (growth, 0.5),
            "growth_spread": (np.abs(growth), 0.95),
            "colour_median": (colour, 0.5),
            "colour_p95": (colour, 0.95),
        }
        truth = np.array([np.nan if each.truth is None else each.truth for each in compared])
        if np.isfinite(truth).all():
            error = np.abs(growth - truth)
            shares["within_5"] = error <= 5
            shares["covered"] = np.array(
                [size.low <= true <= size.high for (size, _), true in zip(changes, truth, strict=True) if size is not None]
            )
            quantiles |= {"error_median": (error, 0.5), "error_p95": (error, 0.95), "error_mean": (error, -1.0)}
        found |= _shares(compared, shares) | _quantiles(compared, quantiles)
    return ComparedPairs(
        title=title,
        lesions=len({each.lesion for each in outcomes}),
        pairs=len(outcomes),
        obstacles=dict(Counter(reason.code for each in outcomes for reason in each.found.obstacles).most_common()),
        metrics={name: found[name] for name in DEFINITIONS if name in found},
    )


def _shares(outcomes: Sequence[Outcome], flags: Mapping[str, Sequence[bool] | NDArray[np.bool_]]) -> dict[str, Metric]:
    lesions = [each.lesion for each in outcomes]
    values = {name: np.asarray(each, np.float64) for name, each in flags.items()}
    found = bootstrap(lesions, lambda weights: {k: metrics.ratio(weights @ v, weights.sum(axis=1)) for k, v in values.items()})
    return {name: each.of_trials(len(set(lesions))).metric() for name, each in found.items()}


def _quantiles(outcomes: Sequence[Outcome], wanted: Mapping[str, tuple[NDArray[np.float64], float]]) -> dict[str, Metric]:
    """Computes quantiles of values; a quantile of -1 means the mean."""

    def statistic(weights: metrics.Floats) -> dict[str, metrics.Floats]:
        found = {}
        for name, (values, share) in wanted.items():
            if share < 0:
                found[name] = metrics.ratio(weights @ values, weights.sum(axis=1))
                continue
            order = np.argsort(values)
            reached = np.cumsum(weights[:, order], axis=1) >= share * weights.sum(axis=1, keepdims=True)
            found[name] = values[order][reached.argmax(axis=1)]
        return found

    return {name: each.metric() for name, each in bootstrap([each.lesion for each in outcomes], statistic).items()}

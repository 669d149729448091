"""Selects the runs to average, greedily, on the validation rows of one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import softmax

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.study.plan import PlanError
from aiderm_trainer.study.selection import ROUNDS, select
from aiderm_trainer.training.objective import full_logits, within_domain_auc
from aiderm_trainer.training.run_folder import SPLIT, load_run

_BATCH = 64
_BYTES = 4  # per float32 weight
_CLIP = 1e-7


def choose(
    runs: Sequence[Path],
    root: Path,
    *,
    max_megabytes: float = 60.0,
    rounds: int = ROUNDS,
    console: Console | None = None,
) -> tuple[list[Path], list[float]]:
    """Selects runs by the validation AUC, inside domains, of the average of their probabilities.

    Args:
        runs: folders that ``train`` wrote, with the same split and classes.
        root: folder of the images.
        max_megabytes: limit on the size of all chosen members' weights, each counted once; a megabyte is 10^6 bytes.
        rounds: largest number of members to add, with replacement.
        console: where each step is printed.

    Returns:
        The chosen runs, at least two, and their weights, which sum to 1.

    Raises:
        PlanError: there are fewer than two runs, their splits or classes differ, or one run alone is best.
        ConfigError: a folder holds no run, or a run without a finished epoch.
    """
    console = console or Console(stderr=True)
    # One folder named twice is one candidate.
    folders = {str(run): run for run in dict.fromkeys(runs)}
    if len(folders) < 2:
        raise PlanError(f"an ensemble is chosen from at least two runs. Received: {len(folders)}")
    first = next(iter(folders.values()))
    table = set(read_split(first / SPLIT))
    rows = sorted((row for row in table if row.split == "validation"), key=lambda row: row.path)
    candidates: dict[str, _Candidate] = {}
    for name, run in folders.items():
        if set(read_split(run / SPLIT)) != table:
            raise PlanError(f"{run} was trained on another split than {first}; an ensemble takes one")
        found = candidates[name] = _score(run, rows, root)
        ids, others = ([label.id for label in each.labels] for each in (found, candidates[str(first)]))
        if found.labels != candidates[str(first)].labels:
            raise PlanError(f"{run} has classes {ids}, {first} {others}; they must be the same")
        alone = _auc(found.probability, found.labels, rows)
        console.print(f"{run}: validation AUC {alone:.4f}, {found.megabytes:.1f} MB", highlight=False)
    chosen = _select(candidates, rows, rounds, max_megabytes, console)
    return [folders[name] for name in chosen], list(chosen.values())


@dataclass(frozen=True)
class _Candidate:
    """A run's classes, its probabilities ``[N, C]`` for the validation rows, and the size of its served weights in megabytes."""

    labels: tuple[Label, ...]
    probability: NDArray[np.float64]
    megabytes: float


def _select(
    candidates: Mapping[str, _Candidate], rows: Sequence[Row], rounds: int, max_megabytes: float, console: Console
) -> dict[str, float]:
    """Returns the weights of the chosen candidates by name.

    Raises:
        PlanError: one candidate alone is best.
    """
    labels = next(iter(candidates.values())).labels
    found = select(
        {name: each.probability for name, each in candidates.items()},
        lambda average: _auc(average, labels, rows),
        rounds,
        lambda members: sum(candidates[member].megabytes for member in members) <= max_megabytes,
    )
    for number, step in enumerate(found.steps, start=1):
        console.print(f"step {number}: + {step.member} -> validation AUC {step.score:.4f}", highlight=False)
    if len(found.weights) < 2:
        raise PlanError(
            f"no average within {max_megabytes:g} MB is better on validation than {found.steps[0].member} alone "
            f"({found.steps[0].score:.4f}); export that"
        )
    total = sum(candidates[name].megabytes for name in found.weights)
    chosen = ", ".join(f"{name} {weight:.3f}" for name, weight in found.weights.items())
    console.print(f"chosen: {chosen}; {total:.1f} MB of weights", highlight=False)
    return dict(found.weights)


def _score(run: Path, rows: Sequence[Row], root: Path) -> _Candidate:
    keras.backend.clear_session()
    _, labels, network = load_run(run)
    signature = [tf.TensorSpec([None, network.size, network.size, 3], tf.uint8)]
    call = tf.function(lambda images: network.model(images, training=False), input_signature=signature)
    logits = np.concatenate([call(batch).numpy() for batch in Images(rows, root, network.size, budget=0).batches(_BATCH)])
    parameters = network.model.count_params()
    if network.novelty is not None:
        shared = {id(variable) for variable in network.model.variables}
        parameters += sum(int(np.prod(v.shape)) for v in network.novelty.variables if id(v) not in shared)
    return _Candidate(labels, softmax(full_logits(logits).astype(np.float64), axis=1), parameters * _BYTES / 1e6)


def _auc(probability: NDArray[np.floating[Any]], labels: Sequence[Label], rows: Sequence[Row]) -> float:
    malignant = np.array([label.malignant for label in labels])
    share = np.clip(probability[:, malignant].sum(axis=1), _CLIP, 1 - _CLIP)
    return within_domain_auc(np.log(share) - np.log1p(-share), rows)

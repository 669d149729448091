"""A study that takes seconds: its plan, weights and command, and a comparison of two result tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import pytest

from aiderm_core import files

# Both kinds of trial: a head on cached features, and a whole network.
PLAN = """
title = "Two architectures"
folds = 2

[[recipes]]
name = "frozen"
frozen = true
seeds = {seeds}
[recipes.train]
arch = "mobilenet_v2"
weights = "backbone.weights.h5"
size = 32
head_epochs = 3

[[recipes]]
name = "scratch"
[recipes.train]
arch = "custom_cnn"
weights = "none"
size = 32
batch = 8
epochs = {epochs}
checkpoint_steps = 1
"""


def write_study(folder: Path, *, seeds: Sequence[int], epochs: int) -> None:
    """Writes plan.toml and weights that stand in for pretrained ones.

    Args:
        folder: the folder for both.
        seeds: the seeds of the frozen recipe.
        epochs: the number of epochs of the other recipe.
    """
    (folder / "plan.toml").write_text(PLAN.format(seeds=list(seeds), epochs=epochs))
    keras.utils.set_random_seed(1)
    backbone = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)
    backbone.save_weights(folder / "backbone.weights.h5")


def compare_command(folder: Path, synthetic_split: tuple[Path, Path]) -> list[str]:
    """The `aiderm-train compare` command for that plan, without --out."""
    split, data = synthetic_split
    where = ["--plan", folder / "plan.toml", "--split", split, "--data", data, "--weights-folder", folder]
    return [sys.executable, "-m", "aiderm_trainer.cli", "compare", *map(str, where), "--threads", "1"]


def equal_tables(one: Path, other: Path) -> list[dict[str, str]]:
    """Asserts that two studies have the same trials and figures, except durations; returns the first table."""
    tables = [files.read_rows(out / "trials.csv") for out in (one, other)]
    for expected, found in zip(*tables, strict=True):
        for name in expected.keys() - {"seconds"}:
            if "." in expected[name]:
                assert float(found[name]) == pytest.approx(float(expected[name]), abs=1e-4), name
            else:
                assert found[name] == expected[name], name
    return tables[0]

"""The ensemble command: greedy selection among runs of one split, reported step by step, and the export with weights."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from aiderm_core.bundle.store import verify
from aiderm_trainer.cli import app
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.split import read_split, write_split
from aiderm_trainer.study.ensemble import choose
from aiderm_trainer.study.plan import PlanError
from aiderm_trainer.training.fit import train
from aiderm_trainer.training.objective import within_domain_auc
from aiderm_trainer.training.run_folder import load_run

CONFIG = TrainConfig(arch="custom_cnn", weights="none", size=32, batch=8, epochs=1, dense=(8,), learning_rate=1e-3)
SOME_PAIRS = 0.04
"""The AUC of a few pairs of images: if their averages are almost equal, rounding decides their order."""


@pytest.fixture(scope="module")
def runs(synthetic_split: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs on one split that differ in seed and image size."""
    split, data = synthetic_split
    folder = tmp_path_factory.mktemp("runs")
    for seed, size in enumerate((32, 32, 48)):
        train(CONFIG.model_copy(update={"seed": seed, "size": size}), read_split(split), data, folder / f"run{seed}")
    return sorted(folder.iterdir())


def probability(run: Path, rows: list, data: Path) -> np.ndarray:
    _, _, network = load_run(run)
    logits = network.model(next(Images(rows, data, network.size).batches(len(rows))), training=False).numpy()[:, 0]
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_it_tells_the_steps_of_greedy_selection(runs: list[Path], synthetic_split: tuple[Path, Path]) -> None:
    split, data = synthetic_split
    rows = [row for row in read_split(split) if row.split == "validation"]
    outputs = {str(run): probability(run, rows, data) for run in runs}
    alone = max(within_domain_auc(output, rows) for output in outputs.values())

    told = io.StringIO()
    try:
        members, weights = choose(runs, data, console=Console(file=told, width=300))
    except PlanError as error:
        assert "alone" in str(error)  # noqa: PT017
        members, weights = [], []
    steps = re.findall(r"^step \d+: \+ (\S+) -> validation AUC (\S+)$", told.getvalue(), re.MULTILINE)
    taken = [member for member, _ in steps]
    for number, (_, score) in enumerate(steps, start=1):
        average = np.mean([outputs[member] for member in taken[:number]], axis=0)
        assert within_domain_auc(average, rows) == pytest.approx(float(score), abs=SOME_PAIRS)
    assert float(steps[-1][1]) >= alone - SOME_PAIRS
    if members:
        times = {member: taken.count(member) / len(taken) for member in taken}
        assert dict(zip(map(str, members), weights, strict=True)) == pytest.approx(times)
    else:
        assert len(set(taken)) == 1


def test_limits_and_splits_are_kept(runs: list[Path], synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    quiet = Console(quiet=True)
    with pytest.raises(ValueError, match="none of 3 candidates fits"):
        choose(runs, data, max_megabytes=1e-3, console=quiet)
    with pytest.raises(PlanError, match="at least two"):
        choose([runs[0], runs[0]], data, console=quiet)
    rows = read_split(split)
    other = Path(shutil.copytree(runs[1], tmp_path / "other"))
    write_split(other / "split.csv", [row for row in rows if row.split != "test"])
    with pytest.raises(PlanError, match="another split"):
        choose([runs[0], other], data, console=quiet)
    write_split(other / "split.csv", rows)
    assert CliRunner().invoke(app, ["ensemble", str(runs[0]), "--name", "e", "--version", "1"]).exit_code == 2


@pytest.mark.ci
def test_the_command_exports_what_was_chosen(
    runs: list[Path], synthetic_split: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data = synthetic_split
    # With runs this small the selection is arbitrary, so it is fixed here and tested above.
    monkeypatch.setattr("aiderm_trainer.study.ensemble.choose", lambda *_, **__: (runs[:2], [0.75, 0.25]))
    models = tmp_path / "models"
    command = ["ensemble", *map(str, runs), "--name", "both", "--version", "1", "--models", str(models), "--data", str(data)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    manifest = verify(models / "both" / "1")
    assert manifest.input.size == 32

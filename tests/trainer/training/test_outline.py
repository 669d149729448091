"""The outline decoder learns, is exported with the network, and changes no other output."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from aiderm_core.bundle.manifest import Input
from aiderm_core.runtime import OUTPUTS, Runtime, load_runtime
from aiderm_core.tta import views
from aiderm_trainer.architectures import build
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.labels import BINARY
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.synthetic import dataset, outlined_lesion
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.outline_agreement import drawn, find_outlines, overlap
from aiderm_trainer.evaluation.outline_errors import measure_errors
from aiderm_trainer.export import novelty
from aiderm_trainer.export.saved_model import Assessor, write
from aiderm_trainer.training import checkpoint, outline, run_folder
from aiderm_trainer.training.outline import OUTLINE, load_decoder, train_outline

pytestmark = pytest.mark.ci

SIZE = 64
CONFIG = TrainConfig(arch="custom_cnn", weights="none", size=SIZE, dense=(8,))


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Path, Path]:
    """Rows of synthetic lesions, the folder of images and the folder of outlines."""
    folder = tmp_path_factory.mktemp("outlined")
    dataset(folder / "data", 120, seed=8, size=112, outlines=folder / "masks")
    prepare(folder / "data", folder / "split.csv", near_duplicates=False, progress=False)
    return read_split(folder / "split.csv"), folder / "data", folder / "masks"


@pytest.fixture(scope="module")
def run(lesions: tuple[list[Row], Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an untrained network and a trained decoder."""
    rows, root, masks = lesions
    run = tmp_path_factory.mktemp("run")
    run_folder.write_inputs(run, CONFIG, rows, root, BINARY)
    checkpoint.save(run / run_folder.BEST, build(CONFIG, len(BINARY)).model.variables, {})
    found = train_outline(run, rows, root, masks, epochs=8, batch=8)
    assert found["dice"] > 0.75
    assert found["jaccard"] == pytest.approx(found["dice"] / (2 - found["dice"]), abs=0.05)
    return run


@pytest.fixture(scope="module")
def assessors(run: Path) -> dict[bool, Assessor]:
    """Assessors with and without the decoder, by whether they have it."""
    _, labels, network = run_folder.load_run(run)
    decoder = load_decoder(run, network)
    plain = np.zeros((24, SIZE, SIZE, 3), np.uint8)
    features = Assessor([network], labels).features(tf.constant(pictures(24))).numpy()
    fitted = novelty.fit(features, Assessor([network], labels).features(tf.constant(plain)).numpy())
    return {outlined: Assessor([network], labels, fitted, decoder=decoder if outlined else None) for outlined in (True, False)}


@pytest.fixture(scope="module", params=["openvino", "tensorflow"])
def runtimes(
    request: pytest.FixtureRequest, assessors: dict[bool, Assessor], tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Runtime]:
    found = {}
    for outlined, assessor in assessors.items():
        folder = tmp_path_factory.mktemp("graph")
        write(assessor, folder)
        found[outlined] = load_runtime(request.param, folder)
    return found


def pictures(count: int) -> np.ndarray:
    return np.stack([cv2.resize(outlined_lesion(900 + i, bool(i % 2), 112)[0], (SIZE, SIZE)) for i in range(count)])


def test_the_decoder_changes_no_other_output(runtimes: dict[bool, Runtime]) -> None:
    with_outline, without = (runtimes[outlined].run(pictures(3)) for outlined in (True, False))
    for name in OUTPUTS:
        assert np.allclose(getattr(with_outline, name), getattr(without, name), atol=1e-6), name
    assert without.outline is None


def test_the_outline_turns_with_the_image_and_fits_unseen_lesions(runtimes: dict[bool, Runtime]) -> None:
    turned = runtimes[True].run(views(pictures(1))).outline
    assert turned is not None
    assert turned.shape == (8, SIZE // 4, SIZE // 4)
    assert turned.min() >= 0.0
    assert turned.max() <= 1.0
    for view in range(8):
        back = np.rot90(turned[view][:, ::-1] if view >= 4 else turned[view], -(view % 4))
        assert np.allclose(back, turned[0], atol=1e-4)
    outlines = runtimes[True].run(pictures(8)).outline
    assert outlines is not None
    drawn_by_hand = [outlined_lesion(900 + i, bool(i % 2), 112)[1] for i in range(8)]
    assert np.mean([overlap(drawn(own, 112), hand)[0] for own, hand in zip(outlines, drawn_by_hand, strict=True)]) > 0.75


def test_errors_hold_most_of_the_drawn_outlines(runtimes: dict[bool, Runtime], lesions: tuple[list[Row], Path, Path]) -> None:
    rows, root, masks = lesions
    info = measure_errors(runtimes[True], rows[:40], find_outlines(masks, rows), root, Input(size=SIZE))
    assert info is not None
    assert info.images > 30
    assert all(low < high for low, high in info.errors.values())
    for name in ("area", "diameter"):  # a coarse outline is smoother than a drawn one, but about as large
        low, high = info.errors[name]
        assert 0.5 < low < 1.0 < high < 2.0, name
    assert measure_errors(runtimes[False], rows, find_outlines(masks, rows), root, Input(size=SIZE)) is None
    assert measure_errors(runtimes[True], rows[:5], find_outlines(masks, rows), root, Input(size=SIZE)) is None


def test_a_run_without_a_decoder_and_rows_without_outlines(
    run: Path, lesions: tuple[list[Row], Path, Path], tmp_path: Path
) -> None:
    rows, root, masks = lesions
    _, _, network = run_folder.load_run(run)
    assert load_decoder(tmp_path, network) is None
    with pytest.raises(ConfigError, match="holds no outline"):
        train_outline(run, [replace(row, path=f"other/{i}.png") for i, row in enumerate(rows)], root, masks, epochs=1)
    (tmp_path / OUTLINE).write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="cannot read"):
        load_decoder(tmp_path, network)


def test_an_interrupted_training_is_resumed_where_it_was(
    run: Path, lesions: tuple[list[Row], Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(OUTLINE))
    begun: list[int] = []

    def begin(self: object, epoch: int, logs: object = None) -> None:
        begun.append(epoch)
        if begun == [0, 1, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(outline._Epoch, "on_epoch_begin", begin)
    with pytest.raises(KeyboardInterrupt):
        train_outline(tmp_path / "run", *lesions, epochs=4, batch=64)
    assert not (tmp_path / "run" / OUTLINE).exists()
    train_outline(tmp_path / "run", *lesions, epochs=4, batch=64)
    assert begun == [0, 1, 2, 2, 3]
    assert (tmp_path / "run" / OUTLINE).exists()

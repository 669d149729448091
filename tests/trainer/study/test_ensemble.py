"""Several runs in one SavedModel: it returns their mean, stores shared layers once, and is served like any other."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from aiderm_core.bundle.manifest import Label
from aiderm_core.bundle.store import ModelStore, verify
from aiderm_core.runtime import load_runtime
from aiderm_core.tta import views
from aiderm_trainer.architectures import Network, build
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.split import read_split, write_split
from aiderm_trainer.export import novelty
from aiderm_trainer.export.bundle import Task, export_runs
from aiderm_trainer.export.members import Members, depths, overlaps, shrink
from aiderm_trainer.export.recalibration import recalibrate
from aiderm_trainer.export.saved_model import Assessor, write
from aiderm_trainer.training.fit import train
from aiderm_trainer.training.run_folder import SPLIT

LABELS = (
    Label(id="a", name="A", malignant=False),
    Label(id="b", name="B", malignant=True),
    Label(id="c", name="C", malignant=True),
)


def noise(size: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (count, size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> list[Network]:
    """Two networks with the same pretrained backbone, whose trained layers, from block_6 on, have diverged."""
    keras.utils.set_random_seed(5)
    file = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3)).save_weights(file)
    networks = []
    for seed in (1, 2):
        config = TrainConfig(arch="mobilenet_v2", weights=str(file), size=64, seed=seed, dense=(8,))
        networks.append(build(config, len(LABELS)))
        rng = np.random.default_rng(seed)
        for variable in networks[-1].model.trainable_variables:
            variable.assign(variable + rng.normal(0, 0.02, variable.shape))
    return networks


@pytest.mark.ci
def test_members_of_one_backbone_share_what_was_not_trained(tuned: list[Network]) -> None:
    members = Members([*tuned, tuned[0]])
    assert len(members.parts) == 2, "a member that is the same as another adds nothing"
    held = [id(variable) for part in members.parts for variable in part.variables]
    assert len(held) == len(set(held))
    own = [layer.name for layer in members.parts[1].layers]
    assert "block_6_expand" in own
    assert "block_5_expand" not in own, "frozen layers are computed anew"
    image = tf.constant(noise(64, 1))
    answers, shown = members(image)
    for network, answer in zip([*tuned, tuned[0]], answers, strict=True):
        *maps, vector, logits = network.detailed(image, training=False)
        assert np.allclose(answer.logits, logits, atol=1e-5)
        assert np.allclose(answer.vector, vector, atol=1e-5)
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(answer.maps, maps, strict=True))
    names = depths(tuned[0])
    assert names[-1] == "block_15_add", "the narrowest of the last stage"
    assert [each.shape[1] for each in shown] == [32, 16, 8, 4, 2]
    own = keras.Model(tuned[0].model.input, [tuned[0].model.get_layer(name).output for name in names])(image, training=False)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(shown, own, strict=True))


@pytest.mark.ci
def test_the_answer_is_the_weighted_mean_for_any_architectures_and_sizes(tuned: list[Network], tmp_path: Path) -> None:
    small = build(TrainConfig(arch="custom_cnn", weights="none", size=48, dense=(8,)), len(LABELS))
    networks, weights = [*tuned, small], np.array([0.5, 0.3, 0.2])
    images = noise(64, 4)
    turned = [n.model(shrink(tf.constant(views(images)), n.size), training=False).numpy() for n in networks]
    own = [keras.ops.softmax(each.reshape(4, 8, -1).mean(axis=1)).numpy() for each in turned]
    expected = sum(weight * each for weight, each in zip(weights, own, strict=True))
    features = Assessor(networks, LABELS).features(tf.constant(noise(64, 8))).numpy()
    write(Assessor(networks, LABELS, novelty.fit(features), weights * 7), tmp_path)
    one, other = load_runtime("tensorflow", tmp_path).run(images), load_runtime("openvino", tmp_path).run(images)
    assert np.allclose(one.probability, expected, atol=1e-5)
    assert np.allclose(one.malignancy, expected[:, 1:].sum(axis=1), atol=1e-5)
    for name in ("probability", "malignancy", "heatmap", "novelty"):
        assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-4, rtol=1e-4), name
    assert one.heatmap.shape == (4, 12, 12), "the finest member's grid"
    assert np.allclose(one.heatmap.max(axis=(1, 2)), one.malignancy, atol=1e-4)

    stored = sum(file.stat().st_size for file in (tmp_path / "variables").iterdir())
    loaded = tf.saved_model.load(str(tmp_path))  # kept alive, because the signature holds only weak references
    used = sum(int(np.prod(v.shape)) * v.dtype.size for v in loaded.signatures["serving_default"].variables)
    apart = sum(4 * n.model.count_params() for n in networks)
    assert stored < 1.05 * used + 50_000, "weights are stored twice"
    assert used < apart, "what members share stands there for each"


@pytest.mark.parametrize(("size", "side"), [(64, 32), (64, 48), (299, 224)])
def test_shrinking_averages_areas(size: int, side: int) -> None:
    import cv2

    images = noise(size, 2)
    expected = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])
    assert np.abs(shrink(tf.constant(images), side).numpy().astype(int) - expected).max() <= 1
    assert overlaps(size, side).sum(axis=1) == pytest.approx(np.ones(side), abs=1e-5)


@pytest.fixture(scope="module")
def runs(synthetic_split: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trained runs with different image sizes."""
    split, data = synthetic_split
    folder = tmp_path_factory.mktemp("runs")
    for seed, size in enumerate((48, 32)):
        config = TrainConfig(arch="custom_cnn", weights="none", size=size, epochs=1, batch=32, dense=(16,), seed=seed)
        train(config, read_split(split), data, folder / str(seed))
    return [folder / "0", folder / "1"]


@pytest.mark.ci
def test_an_exported_ensemble_is_a_bundle_like_any_other(
    runs: list[Path], synthetic_split: tuple[Path, Path], tmp_path: Path
) -> None:
    split, data = synthetic_split
    store = ModelStore(tmp_path)
    bundle = export_runs(runs, store, Task("both", "1", data, licence="none", weights=[3, 1]))
    manifest = verify(bundle)
    assert manifest.architecture == "ensemble of custom_cnn, custom_cnn"
    assert manifest.input.size == 48
    members = manifest.training.config["members"]
    assert [(member["size"], member["seed"], member["weight"]) for member in members] == [(48, 0, 0.75), (32, 1, 0.25)]
    assert "roc_auc" in manifest.metrics["test"]
    assert (manifest.orientations, manifest.upright, manifest.thorough) == (8, False, None)
    assert manifest.novelty.evaluation["simulated close-ups, images"] > 0
    images = noise(48, 2)
    before = load_runtime("openvino", bundle).run(images)
    assert np.isfinite(before.novelty).all()

    rows = [row for row in read_split(split) if row.split != "train"]
    site = recalibrate(bundle, "site", store, rows, data)
    after = load_runtime("openvino", site).run(images)
    scale, shift = (
        verify(site).calibration.temperature / manifest.calibration.temperature,
        verify(site).calibration.malignant_shift,
    )
    odds = np.log(before.malignancy / (1 - before.malignancy)) - manifest.calibration.malignant_shift
    assert np.allclose(np.log(after.malignancy / (1 - after.malignancy)), odds / scale + shift, atol=1e-3)


def test_members_that_do_not_fit_are_refused(runs: list[Path], synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")

    def refused(folders: list[Path], match: str, weights: list[float] | None = None) -> None:
        with pytest.raises(ConfigError, match=match):
            export_runs(folders, store, Task("x", "1", synthetic_split[1], licence="none", weights=weights))

    refused([], "at least one run. Received: none")
    refused(runs, "weight above 0", [1.0])
    refused(runs, "weight above 0", [1.0, float("nan")])
    other = tmp_path / "other"
    other.mkdir()
    for file in runs[1].iterdir():
        if file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    write_split(other / SPLIT, read_split(other / SPLIT)[1:])
    refused([runs[0], other], "other splits: 1 rows")
    (other / "labels.json").write_text((other / "labels.json").read_text().replace('"id": "benign"', '"id": "harmless"'))
    refused([runs[0], other], "other labels: benign, malignant and harmless, malignant")

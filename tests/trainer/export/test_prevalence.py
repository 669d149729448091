"""Another prevalence changes the probabilities but not the decisions."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiderm_core.bundle.manifest import DecisionRule, Histogram, Manifest
from aiderm_core.bundle.store import BundleError, ModelStore, seal, verify
from aiderm_core.decision import decide
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.quality.measurements import QualityWarning
from aiderm_core.runtime import load_runtime
from aiderm_core.tta import TtaRuntime
from aiderm_trainer.cli import app
from aiderm_trainer.export.prevalence import PriorError, correct_prior, shift_histogram, shift_probability, shift_rule
from aiderm_trainer.export.saved_model import AssessorError

SHARE = st.floats(0.001, 0.999)
SCORE = st.floats(0, 1, width=32)


@given(
    rule=st.lists(st.integers(0, 10**6), min_size=3, max_size=3).map(sorted),
    score=SCORE,
    old=SHARE,
    new=SHARE,
    blurred=st.booleans(),
)
@example(rule=[0, 0, 10**6], score=0.0, old=0.3, new=0.02, blurred=False)
@example(rule=[0, 10**6, 10**6], score=1.0, old=0.3, new=0.02, blurred=False)
@settings(max_examples=300, deadline=None)
def test_no_decision_changes_at_any_malignancy(sample_manifest, rule, score, old, new, blurred):
    """As in a bundle, malignancies are float32 and thresholds are multiples of a millionth."""
    low, threshold, high = (value * 1e-6 for value in rule)
    before = DecisionRule(threshold=threshold, target_sensitivity=0.95, uncertain=(low, high))
    after = shift_rule(before, old, new)
    manifest = sample_manifest()
    warnings = (QualityWarning("sharpness", "blurred"),) if blurred else ()
    for value in (score, float(np.nextafter(np.float32(score), np.float32(1)))):
        one = decide(value, 1.0, {}, warnings, manifest, before)
        other = decide(float(shift_probability(value, old, new)), 1.0, {}, warnings, manifest, after)
        assert one == other


@given(score=SCORE, old=SHARE, new=SHARE)
@settings(max_examples=100, deadline=None)
def test_log_odds_move_by_those_of_the_prevalences_and_back(score, old, new):
    moved = float(shift_probability(score, old, new))
    assert 0 <= moved <= 1
    assert (moved > score) == (new > old) or moved == pytest.approx(score)
    if 1e-6 < score < 1 - 1e-6:
        odds = [np.log(value / (1 - value)) for value in (score, moved, old, new)]
        rounding = np.finfo(float).eps / min(moved, 1 - moved)  # close to 1, a probability has few significant digits left
        assert odds[1] - odds[0] == pytest.approx(odds[3] - odds[2], abs=1e-6 + rounding)
        assert float(shift_probability(moved, new, old)) == pytest.approx(score, abs=1e-6)


def test_expected_malignancy_becomes_the_new_prevalence():
    """If the rows of a perfectly calibrated model are weighted to the new prevalence, their mean is the new prevalence."""
    score = np.random.default_rng(0).beta(0.6, 1.4, 200_000)
    weights = score * 0.02 / score.mean() + (1 - score) * 0.98 / (1 - score.mean())
    moved = shift_probability(score, score.mean(), 0.02)
    assert np.average(moved, weights=weights) == pytest.approx(0.02, rel=1e-6)


def test_a_histogram_keeps_its_counts():
    values = np.random.default_rng(1).random(500).astype(np.float32)
    counts, edges = np.histogram(values, 20, (0, 1))
    moved = shift_histogram(Histogram(edges=edges.tolist(), counts=counts.tolist()), 0.3, 0.02)
    assert (moved.edges[0], moved.edges[-1]) == (0.0, 1.0)
    assert np.histogram(shift_probability(values.astype(float), 0.3, 0.02), moved.edges)[0].tolist() == counts.tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sample_manifest):
    """A bundle, melanoma 1, with a real graph of this trainer with random weights."""
    import keras
    import tensorflow as tf

    from aiderm_core.bundle.manifest import Input
    from aiderm_trainer.architectures import build
    from aiderm_trainer.config import TrainConfig
    from aiderm_trainer.export import novelty, saved_model
    from aiderm_trainer.export.golden import golden_cases

    labels = sample_manifest().labels
    keras.utils.set_random_seed(2)
    network = build(TrainConfig(arch="custom_cnn", weights="none", size=48), len(labels))
    pictures = np.random.default_rng(0).integers(0, 256, (24, 48, 48, 3), dtype=np.uint8)
    features = saved_model.Assessor([network], labels).features(tf.constant(pictures)).numpy()
    assessor = saved_model.Assessor([network], labels, novelty.fit(features))
    assessor.temperature.assign(0.05)
    store = ModelStore(tmp_path_factory.mktemp("prior"))
    with store.stage("melanoma", "1") as folder:
        saved_model.write(assessor, folder)
        runtime = load_runtime("openvino", folder)
        score = runtime.run(pictures).malignancy
        low, threshold, high = (float(np.quantile(score, q)) for q in (0.2, 0.45, 0.6))
        rule = {"threshold": threshold, "target_sensitivity": 0.9, "uncertain": (low, high)}
        numbers = ("roc_auc", "specificity", "brier", "ece", "calibration_slope", "multiclass_macro_f1", "melanoma_auc")
        (folder / "report").mkdir()
        (folder / "report" / "split.csv").write_text("sha256,source,group,split,dx,malignant\n")
        (folder / "report" / "report.json").write_text("{}")
        manifest = sample_manifest(
            input={"size": 48},
            decision=rule,
            thorough={"decision": rule, "gain": {"auc": 0.01, "log_likelihood": 0.02}, "pool": "log_odds"},
            metrics={"test": {name: {"value": 0.5} for name in numbers}},
            forms=[
                {"runtime": "openvino", "precision": "f32"},
                {"runtime": "openvino", "precision": "int8", "path": "report", "decision": rule},
            ],
            golden=golden_cases(folder, runtime, Input(size=48)).model_dump(),
        )
        seal(folder, manifest)
    return store, pictures


def decisions(runtime, pictures, manifest, rule):
    return [decide(float(m), 0.0, {}, (), manifest, rule).decision for m in runtime.run(pictures).malignancy]


def test_a_bundle_for_another_prevalence(trained):
    store, pictures = trained
    bundle = store.path("melanoma", "1")
    old = verify(bundle)
    written = correct_prior(bundle, "2", store, 0.02)
    new = verify(written)
    before, after = load_runtime("openvino", bundle), load_runtime("openvino", written)

    assert new.calibration.prevalence == 0.02
    assert "0.3125" in new.calibration.method
    wanted = shift_probability(before.run(pictures).malignancy.astype(float), 0.3125, 0.02)
    assert np.allclose(after.run(pictures).malignancy, wanted, atol=1e-4)
    assert after.run(pictures).novelty == pytest.approx(before.run(pictures).novelty, rel=1e-4)
    seen = decisions(before, pictures, old, old.decision)
    assert len(set(seen)) == 3
    assert decisions(after, pictures, new, new.decision) == seen
    assert decisions(load_runtime("tensorflow", written), pictures, new, new.decision) == seen
    several = [TtaRuntime(runtime, old.labels, "log_odds") for runtime in (before, after)]
    assert decisions(several[1], pictures, new, new.thorough.decision) == decisions(
        several[0], pictures, old, old.thorough.decision
    )

    assert set(new.metrics["test"]) == {"roc_auc", "specificity"}
    assert new.thorough.gain == {"auc": 0.01}
    assert [form.precision for form in new.forms] == ["f32"]
    for case in new.golden.cases:
        picture = to_model_input(decode_image((written / case.path).read_bytes()).pixels, 48)
        assert after.run(picture[None]).malignancy[0] == pytest.approx(case.malignancy, abs=1e-5)
    assert sorted(path.name for path in (written / "report").iterdir()) == ["split.csv"]
    card = (written / "MODEL_CARD.md").read_text("utf-8")
    assert "assumes that 2% of the images" in card
    assert "All decisions are those of version 1" in card
    with pytest.raises(BundleError):
        correct_prior(bundle, "2", store, 0.05)


def test_a_mean_of_probabilities_is_not_carried_over(trained, tmp_path):
    store, _ = trained
    elsewhere = ModelStore(tmp_path)
    old = Manifest.load(store.path("melanoma", "1"))
    with elsewhere.stage("melanoma", "1") as folder:
        shutil.copytree(store.path("melanoma", "1"), folder, dirs_exist_ok=True)
        seal(folder, old.model_copy(update={"thorough": old.thorough.model_copy(update={"pool": "probability"})}))
    new = verify(correct_prior(elsewhere.path("melanoma", "1"), "2", elsewhere, 0.02))
    assert new.thorough is None
    assert "Test-time augmentation is not offered" in new.limitations[-1]


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 2.0, float("nan"), 0.3125])
def test_a_prevalence_that_is_none(trained, prevalence):
    store, _ = trained
    with pytest.raises(PriorError, match="Received"):
        correct_prior(store.path("melanoma", "1"), "9", store, prevalence)
    assert "9" not in store.versions("melanoma")


def test_a_graph_of_another_maker(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path)
    with pytest.raises(AssessorError):
        correct_prior(bundle, "2", ModelStore(tmp_path), 0.02)


def test_the_command(trained):
    from typer.testing import CliRunner

    store, _ = trained
    bundle = str(store.path("melanoma", "1"))

    def run(*arguments):
        return CliRunner().invoke(app, ["recalibrate", bundle, *arguments])

    done = run("--prevalence", "0.1", "--version", "rare")
    assert done.exit_code == 0, done.output
    assert Manifest.load(store.path("melanoma", "rare")).calibration.prevalence == 0.1
    for wrong in ([], ["--prevalence", "0.1", "--data", "x"], ["--prevalence", "0.1", "--sensitivity", "0.9"]):
        refused = run(*wrong, "--version", "no")
        assert refused.exit_code == 2
        assert "error:" in refused.output

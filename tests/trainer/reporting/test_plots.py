import cv2
import numpy as np
import pytest

from aiderm_trainer.evaluation import report_schema
from aiderm_trainer.evaluation.evaluate import REPORT_FILE, write_report
from aiderm_trainer.reporting.plots import write_plots

HISTORY = [{"epoch": i, "loss": 1 / (i + 1), "val_loss": 1.1 / (i + 1), "val_auc": 0.8} for i in range(4)]


@pytest.fixture(scope="module")
def report(tmp_path_factory, sample_scores, sample_manifest):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, sample_scores(300), sample_manifest(), HISTORY, 50)
    return report_schema.EvaluationReport.model_validate_json((folder / REPORT_FILE).read_bytes())


def test_every_plot_is_a_readable_picture_with_something_on_it(report, tmp_path):
    names = write_plots(tmp_path, report)
    assert names == [
        f"{name}.png" for name in ("roc", "pr", "reliability", "decision_curve", "histogram", "confusion", "training")
    ]
    for name in names:
        picture = cv2.imread(str(tmp_path / name))
        assert min(picture.shape[:2]) > 300, name
        assert 0.002 < (picture < 128).any(axis=2).mean() < 0.7, name


def test_the_same_report_gives_the_same_bytes(report, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    names = write_plots(tmp_path / "a", report)
    assert write_plots(tmp_path / "b", report) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_curve_gives_another_picture(report, tmp_path):
    write_plots(tmp_path, report)
    before = cv2.imread(str(tmp_path / "roc.png"))
    segment = report.segments["test"]
    flat = segment.roc.model_copy(update={"true_positive_rate": segment.roc.false_positive_rate})
    segments = report.segments | {"test": segment.model_copy(update={"roc": flat})}
    write_plots(tmp_path, report.model_copy(update={"segments": segments}))
    assert not np.array_equal(before, cv2.imread(str(tmp_path / "roc.png")))


def test_what_the_report_has_no_data_for_is_not_drawn(report, tmp_path):
    bare = report.segments["test"].model_copy(update={"roc": None, "pr": None, "confusion": None})
    names = write_plots(tmp_path, report.model_copy(update={"segments": {"test": bare}, "history": []}))
    assert names == ["reliability.png", "decision_curve.png", "histogram.png"]


def test_a_history_of_numbers_that_are_missing_is_drawn_with_gaps(report, tmp_path):
    history = [{"epoch": 1, "loss": None, "stage": "head"}, {"epoch": 2, "loss": 0.5}]
    assert "training.png" in write_plots(tmp_path, report.model_copy(update={"history": history}))

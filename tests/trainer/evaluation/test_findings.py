import csv
import json

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.runtime import load_runtime
from aiderm_trainer.data.split import read_split
from aiderm_trainer.evaluation.evaluate import PAGE_FILE, REPORT_FILE, write_report
from aiderm_trainer.evaluation.findings import METRICS_ONLY, FindingsRequest, investigate, read_left_out
from aiderm_trainer.evaluation.report_schema import EvaluationReport
from aiderm_trainer.evaluation.scores import score_bundle
from aiderm_trainer.evaluation.worst_errors import write_pictures
from aiderm_trainer.reporting.plots import write_plots

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scored(make_bundle, synthetic_split, tmp_path_factory):
    split, data = synthetic_split
    bundle = make_bundle(tmp_path_factory.mktemp("findings") / "models")
    manifest, runtime = Manifest.load(bundle), load_runtime("openvino", bundle)
    rows = read_split(split)
    tested = [row for row in rows if row.split == "test"]
    return runtime, score_bundle(runtime, manifest.input, tested, data, progress=False), data, manifest, rows


def test_everything_that_is_asked_for_is_in_report_page_and_plots(scored, tmp_path):
    runtime, scores, data, manifest, rows = scored
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "age", "sex", "localization", "dx_type", "collection"])
        for i, row in enumerate(rows):
            writer.writerow([row.path, 5 + i % 80, ("female", "male")[i % 2], ("back", "foot", "unknown")[i % 3], "histo", "cam"])
    (tmp_path / "masks").mkdir()
    for row in scores.rows[:12]:
        spot = np.zeros((56, 56), np.uint8)
        cv2.circle(spot, (28, 28), 16, 255, -1)
        cv2.imwrite(str(tmp_path / "masks" / f"{row.path.rsplit('/')[-1].removesuffix('.png')}.png"), spot)
    (tmp_path / "skin").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "skin" / f"{i}.jpg"), np.full((120, 120, 3), (250, 170, 200), np.uint8))
    (tmp_path / "skin" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "left.json").write_text('{"synthetic": {"roc_auc": {"value": 0.8, "ci95": [0.7, 0.9]}}}')
    point = {"domain": "elsewhere", "images": 50, "draws": 9, "ece": 0.1, "ece_high": 0.2, "within_bound": 0.5}
    point |= {"sensitivity": 0.9, "sensitivity_low": 0.8, "specificity": 0.3}
    (tmp_path / "curve.json").write_text(json.dumps([point]))
    asked = [tmp_path / name for name in ("masks", "skin", "left.json", "curve.json")]
    request = FindingsRequest(table, True, 10, *asked)
    train = [row for row in rows if row.split == "train"]
    found = investigate(runtime, scores, data, manifest, request, train, replicates=50, progress=False)

    assert {each.family for each in found.subgroups} >= {"age", "sex", "body site"}
    sites = {each.name: each for each in found.subgroups if each.family == "body site"}
    assert set(sites) == {"back", "foot"}
    assert sites["foot"].count == sum(rows.index(row) % 3 == 1 for row in scores.rows)
    held = {(each.side, each.kind): each for each in found.held}
    children = [row for i, row in enumerate(rows) if row.split == "train" and 5 + i % 80 < 18]
    assert held["train", "children (under 18)"].images == len(children)
    assert held["train", "children (under 18)"].malignant == sum(row.malignant for row in children)
    assert held["test", "hands, feet, palms, soles"].images == sites["foot"].count
    assert sum(each.images for (_, kind), each in held.items() if kind.startswith("skin tone")) <= len(scores.rows)
    assert found.stress.count == found.orientations.count <= 10
    (domain,) = found.domains.domains
    assert (domain.name, domain.biopsy_known, domain.images) == ("cam", True, len(scores.rows))
    assert found.domains.biopsied["n"].value == len(scores.rows)
    assert found.outlines.biopsied_only
    assert found.learning_curve[0].domain == "elsewhere"
    assert found.outlines.count == 12
    assert (found.close_ups.count, found.close_ups.undecodable) == (3, 1)
    assert found.close_ups.accepted.value == 0  # their blue puts novelty above its limit
    assert found.close_ups.accepted.ci95[1] > 0.3
    assert found.close_ups.auroc.value == 1

    metrics = write_report(tmp_path / "report", scores, manifest, replicates=50, findings=found)
    assert {"test/stress=blur", "test/outlines", "test/orientations", "test/biopsied", "test/domain=cam"} <= set(metrics)
    report = EvaluationReport.model_validate_json((tmp_path / "report" / REPORT_FILE).read_bytes())
    assert report.findings == found
    page = (tmp_path / "report" / PAGE_FILE).read_text()
    assert "Not measured" not in page
    for text in ("gel bubbles", "under 18", "painted over", "synthetic", "DermaSensor", "was left out", "0.100 (0.200)"):
        assert text in page
    assert {"stress.png", "subgroups.png"} <= set(write_plots(tmp_path / "report", report))
    assert sum(path.stat().st_size for path in (tmp_path / "report").iterdir()) < 1_000_000


def test_without_a_request_subgroups_come_from_the_pictures_alone(scored):
    runtime, scores, data, manifest, _ = scored
    found = investigate(runtime, scores, data, manifest, METRICS_ONLY, replicates=20, progress=False)
    assert {each.family for each in found.subgroups} <= {"source", "skin tone"}
    assert found.stress is found.outlines is found.close_ups is None
    assert found.orientations is None
    assert {each.name for each in found.domains.domains} == {row.domain for row in scores.rows}
    assert {name.split("=")[0] for name in found.metrics()} <= {"test/biopsied", "test/domain"}
    assert "roc_auc" not in found.domains.biopsied  # it is unknown what was biopsied


def test_pictures_of_errors_are_kept_out_of_git(scored, tmp_path):
    _, scores, data, manifest, _ = scored
    files = write_pictures(tmp_path, scores, manifest, data)
    assert files
    assert (tmp_path / "worst" / ".gitignore").read_text() == "*\n"
    assert all(cv2.imread(str(path)).shape[1] == 960 for path in files)


def test_a_folder_without_pictures_and_a_file_of_another_form_are_refused(scored, tmp_path):
    runtime, scores, data, manifest, _ = scored
    with pytest.raises(ValueError, match="no image that can be decoded"):
        investigate(runtime, scores, data, manifest, FindingsRequest(close_ups=tmp_path), replicates=20, progress=False)
    (tmp_path / "left.json").write_text('{"a": 0.9}')
    with pytest.raises(ValueError, match="must hold"):
        read_left_out(tmp_path / "left.json")

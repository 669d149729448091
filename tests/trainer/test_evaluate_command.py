import pytest
from typer.testing import CliRunner

from aiderm_trainer.cli import app
from aiderm_trainer.data.split import read_split
from aiderm_trainer.evaluation.evaluate import REPORT_FILE
from aiderm_trainer.evaluation.report_schema import EvaluationReport


@pytest.fixture(scope="module")
def command(make_bundle, synthetic_split, tmp_path_factory):
    split, data = synthetic_split
    bundle = make_bundle(tmp_path_factory.mktemp("command") / "models")
    options = ["evaluate", str(bundle), "--split", str(split), "--data", str(data)]
    return lambda *more: CliRunner().invoke(app, [*options, *more])


@pytest.mark.parametrize("side", ["test", "validation"])
def test_a_side_of_the_split_is_evaluated(command, synthetic_split, tmp_path, side):
    result = command("--side", side, "--out", str(tmp_path / "report"), "--stress", "--stress-images", "8", "--pictures")
    assert result.exit_code == 0, result.output
    report = EvaluationReport.model_validate_json((tmp_path / "report" / REPORT_FILE).read_bytes())
    assert report.main == side
    assert report.metrics[side]["n"].value == sum(row.split == side for row in read_split(synthetic_split[0]))
    assert report.findings.stress.split == side
    assert report.findings.stress.count <= 8
    assert "belong to the owners of the data" in " ".join(result.output.split())
    assert (tmp_path / "report" / "worst").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--side", "train"], "--side must be one of test, validation, calibration"),
        (["--pictures"], "--pictures needs --out"),
        (["--stress-images", "9"], "--stress-images needs --stress"),
    ],
)
def test_options_that_make_no_sense_are_refused(command, options, message):
    result = command(*options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())

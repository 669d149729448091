import pytest

from aiderm_trainer.reporting.camera import camera_section, read_camera_study


def test_each_method_is_a_row_and_each_figure_a_column(tmp_path):
    file = tmp_path / "camera.json"
    file.write_text(
        '{"methods": [{"name": "plain", "figures": {"roc_auc": {"value": 0.903, "ci95": [0.89, 0.91]}, "camera": 0.907}},'
        ' {"name": "offset", "figures": {"camera": {"value": 0.47}}, "note": "Blind."}], "text": "Keep both.", "split": "x"}'
    )
    text = camera_section(read_camera_study(file))
    assert text.startswith("## What does the score read?")
    assert "| training method | ROC AUC | camera |" in text
    assert "| plain | 0.903 (0.890 to 0.910) | 0.907 |" in text
    assert "| offset | - | 0.470 |" in text
    assert "- **offset**: Blind." in text
    assert text.endswith("Keep both.\n")


def test_another_form_is_refused(tmp_path):
    (tmp_path / "camera.json").write_text('{"methods": [{"name": "plain"}]}')
    with pytest.raises(ValueError, match="must hold"):
        read_camera_study(tmp_path / "camera.json")

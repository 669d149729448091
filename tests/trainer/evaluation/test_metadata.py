import pytest

from aiderm_trainer.evaluation.metadata import MetadataError, Record, read_metadata


def table(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_joined_by_path(sample_rows, tmp_path):
    rows = sample_rows(4)
    text = "path,age,sex,localization,collection,extra\n"
    text += "test/0.png,45.0,Male,Lower Extremity,cam_A,x\ntest/2.png,unknown,,NaN,,\nelsewhere.png,-5,,,,\n"
    found = read_metadata(table(tmp_path, text), rows)
    assert found == {"test/0.png": Record(45.0, "male", "lower extremity", "cam_A"), "test/2.png": Record()}


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "under 18"), (17.9, "under 18"), (18, "18 to 39"), (59, "40 to 59"), (60, "60 to 74"), (75, "75 and over"), (None, "")],
)
def test_ages_fall_into_bands(age, band):
    assert Record(age=age).age_band == band


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,age\ntest/0.png,4\n", "column path"),
        ("path,colour\ntest/0.png,4\n", "one of age"),
        ("path,age\nother.png,4\n", "none of the 4 images"),
        ("path,age\ntest/0.png,old\n", "line 2: age must be years"),
        ("path,age\ntest/0.png,nan7\n", "age must be years"),
        ("path,age\ntest/0.png,130\n", "age must be years"),
        ("path,age\ntest/0.png,30\ntest/0.png,31\n", "line 3: test/0.png stands there twice"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(sample_rows, tmp_path, text, message):
    with pytest.raises(MetadataError, match=message):
        read_metadata(table(tmp_path, text), sample_rows(4))


@pytest.mark.parametrize(("made_by", "biopsied"), [("histo", True), ("histopathology", True), ("follow_up", False), ("", None)])
def test_a_label_of_a_pathologist_means_a_biopsy(tmp_path, sample_rows, made_by, biopsied):
    (row,) = sample_rows(1)
    (tmp_path / "t.csv").write_text(f"path,dx_type,domain\n{row.path},{made_by},camera A\n")
    record = read_metadata(tmp_path / "t.csv", [row])[row.path]
    assert record.biopsied is biopsied
    assert record.domain == "camera A"

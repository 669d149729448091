from pathlib import Path

import pytest

from aiderm_trainer.data.class_names import ClassName, parse_archive_diagnosis

# All diagnoses in the archive's schema: isic-metadata 4.12, DiagnosisEnum.
DIAGNOSES = (Path(__file__).parent / "archive_diagnoses.txt").read_text("utf-8").splitlines()
# Carcinomas in situ, which the archive calls indeterminate and HAM10000's akiec counts as malignant.
IN_SITU = "Indeterminate epidermal proliferations"


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_each_diagnosis_of_the_archive_is_on_the_archives_own_side(diagnosis: str) -> None:
    side, *exact = diagnosis.split(":")
    found = parse_archive_diagnosis({f"diagnosis_{level}": name for level, name in enumerate([side, *exact], start=1)})
    if side != "Indeterminate":
        assert isinstance(found, ClassName)
        assert found.malignant == (side == "Malignant")
    elif isinstance(found, ClassName):
        assert exact[0] == IN_SITU
        assert found.dx == "akiec"

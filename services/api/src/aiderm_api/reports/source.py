"""Reads what a report repeats from the assessed DICOM file: the references of patient, study and image.

They go back only to the caller, who sent them. Nothing here is logged, and errors name only tags.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from aiderm_api.errors.problems import NotAcceptable
from aiderm_core.imaging.formats import sniff
from aiderm_core.imaging.headers.dicom_elements import name_of, read_elements

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# The warnings of these packages hold values, and their log records hold UIDs.
warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)\b")
for _name in ("pydicom", "highdicom"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_UIDS = {0x00080016: "SOPClassUID", 0x00080018: "SOPInstanceUID", 0x0020000D: "StudyInstanceUID", 0x0020000E: "SeriesInstanceUID"}
_TEXTS = {  # with the maximum lengths of their value representations
    **{0x00100010: ("PatientName", 63), 0x00100020: ("PatientID", 64), 0x00080050: ("AccessionNumber", 16)},
    **{0x00200010: ("StudyID", 16), 0x00080090: ("ReferringPhysicianName", 63)},
}
_DATES = {0x00100030: ("PatientBirthDate", 8), 0x00080020: ("StudyDate", 8), 0x00080030: ("StudyTime", 6)}
_SEX, _CHARSET = 0x00100040, 0x00080005
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_DATE = re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])|([01]\d|2[0-3])[0-5]\d[0-5]\d")


def source_of(data: bytes) -> Dataset | None:
    """Returns the references of an assessed DICOM file as a data set in UTF-8; None for another format.

    Values that break the standard are left out.

    Raises:
        NotAcceptable: the file lacks a UID that a report has to name.
    """
    if sniff(data) != "dicom":
        return None
    from pydicom.dataset import Dataset

    stored = read_elements(data).values((_CHARSET, _SEX, *_UIDS, *_TEXTS, *_DATES))
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    for tag, keyword in _UIDS.items():
        uid = _text(stored, keyword, 64)
        if not _UID.fullmatch(uid):
            raise NotAcceptable(
                f"Received: a DICOM file without a valid UID in {name_of(tag)}. Allowed: one that a report can name."
            )
        setattr(found, keyword, uid)
    for keyword, most in _TEXTS.values():
        setattr(found, keyword, _text(stored, keyword, most))
    for keyword in ("PatientName", "ReferringPhysicianName"):
        if found[keyword].value and "^" not in str(found[keyword].value):
            setattr(found, keyword, f"{found[keyword].value}^")  # highdicom requires this form for a name of one component
    for keyword, length in _DATES.values():
        text = _text(stored, keyword, 16)[:length]
        setattr(found, keyword, text if len(text) == length and _DATE.fullmatch(text) else "")
    sex = _text(stored, "PatientSex", 1)
    found.PatientSex = sex if sex in ("M", "F", "O") else ""
    return found


def _text(stored: Dataset, keyword: str, most: int) -> str:
    text = ""
    with suppress(Exception):  # a broken value may raise anything; it is left out
        text = str(stored.get(keyword) or "")
    return "".join(each for each in text if each.isprintable() and each != "\\").strip()[:most]

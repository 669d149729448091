"""A DICOM photograph leaves the page without its patient, with the same pixels, and gets an answer."""

from __future__ import annotations

import numpy as np
import pytest
from tests import dicom_files as files

from aiderm_core.imaging.decode import decode_image

pytestmark = pytest.mark.browser
PIXELS = files.sample(200, 150)


def test_only_the_pixels_and_their_description_are_sent(stripped):
    kinds = files.kinds(PIXELS) | files.jpegs(PIXELS)
    for name in ("explicit", "implicit", "big-endian", "palette", "jpeg 2000 frames", "rle", "jpeg in pieces"):
        sent = stripped(kinds[name])
        assert np.array_equal(decode_image(sent).pixels, decode_image(kinds[name]).pixels), name
        assert decode_image(sent).spacing == (0.025, 0.025)
        for value in (*files.SECRETS.values(), "1.2.826.0.1"):
            assert value.encode() not in sent, (name, value)
    nested = stripped(files.nested(12))
    assert len(nested) < len(files.nested(12))
    assert decode_image(nested).format == "dicom"
    cut = stripped(kinds["explicit"][:700])
    assert cut[128:132] == b"DICM"
    assert b"Zwetschkenbaum" not in cut

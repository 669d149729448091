"""The most likely class at even prevalence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aiderm_core.assess import assess
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.imaging.limits import Limits
from aiderm_core.most_likely import NOTE, at_even_prevalence, most_likely
from aiderm_core.runtime import load_runtime

PRIOR = {"mel": 0.1, "bcc": 0.05, "akiec": 0.04, "nv": 0.7, "bkl": 0.08, "df": 0.01, "vasc": 0.02}


@pytest.fixture(scope="module")
def stated(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"class_prior": PRIOR})


def test_a_rare_class_that_fits_well_beats_a_common_one_that_fits_badly(stated: Manifest) -> None:
    found = most_likely(np.array([0.02, 0.01, 0.01, 0.6, 0.01, 0.3, 0.05]), stated)  # df is thirty times its prior
    assert found is not None
    assert (found.id, found.name, found.note) == ("df", "Dermatofibroma", NOTE)
    odds = np.array([0.2, 0.2, 0.25, 0.6 / 0.7, 0.125, 30.0, 2.5])
    assert found.probability == pytest.approx(30.0 / odds.sum())


def test_probabilities_equal_to_the_prior_say_nothing() -> None:
    prior = np.array(list(PRIOR.values()))
    assert at_even_prevalence(np.stack([prior, prior]), prior) == pytest.approx(np.full((2, 7), 1 / 7))


def test_without_a_stated_prior_there_is_none(manifest: Manifest) -> None:
    assert manifest.class_prior is None
    assert most_likely(np.full(7, 1 / 7), manifest) is None


def test_an_assessment_carries_it(stated: Manifest, sound_bundle) -> None:
    runtime = load_runtime("openvino", sound_bundle)
    picture = (sound_bundle / stated.golden.cases[1].path).read_bytes()
    found = assess(picture, manifest=stated, runtime=runtime, rule=stated.decision, limits=Limits(min_side=1))
    assert found.most_likely == most_likely(found.probabilities, stated)
    assert found.most_likely is not None
    assert found.most_likely.id == "akiec"  # the malignant classes share 210/255 equally, so the rarest wins


def test_a_prior_survives_the_manifest(stated: Manifest) -> None:
    assert Manifest.model_validate(json.loads(stated.dump())).class_prior == PRIOR

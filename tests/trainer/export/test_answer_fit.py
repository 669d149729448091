"""Calibration within domains: a domain that is large, or never biopsied, does not dominate the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from aiderm_trainer.data.labels import BINARY
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.scores import Scores
from aiderm_trainer.export.answer_fit import fit_answers
from aiderm_trainer.export.calibration import fit_calibration


def scored(domain: list[str], malignant: np.ndarray, odds: np.ndarray, biopsied: Sequence[bool | None] = ()) -> Scores:
    malignancy = 1 / (1 + np.exp(-odds))
    rows = [
        Row(hashlib.sha256(str(i).encode()).hexdigest(), f"{i}.png", "all", f"g{i}", "calibration", "", bool(sick), where, known)
        for i, (where, sick, known) in enumerate(zip(domain, malignant, biopsied or [None] * len(domain), strict=True))
    ]
    probability = np.stack([1 - malignancy, malignancy], axis=1).astype(np.float32)
    return Scores(rows, probability, probability[:, 1], np.linspace(0, 1, len(rows), dtype=np.float32), [{} for _ in rows])


def lesions(domain: str, count: int, shift: float, seed: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Lesions whose true log-odds of malignancy are half of the network's, plus ``shift``."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(0, 3, count)
    return [domain] * count, rng.random(count) < 1 / (1 + np.exp(-(raw / 2 + shift))), raw


def joined(*parts: tuple[list[str], np.ndarray, np.ndarray], biopsied: Sequence[bool | None] = ()) -> Scores:
    domain, malignant, raw = zip(*parts, strict=True)
    return scored([each for part in domain for each in part], np.concatenate(malignant), np.concatenate(raw), biopsied)


def test_domains_count_alike_however_many_rows_they_have() -> None:
    many, few = lesions("many", 6000, 0.0, 1), lesions("few", 600, 2.0, 2)
    shift = fit_answers(joined(many, few), BINARY, 0.95, 1.0, 0.0).calibration.malignant_shift
    assert 0.6 < shift < 1.4  # between 0 and 2, although ten of eleven rows have shift 0
    handful = (few[0][:5], few[1][:5], few[2][:5])
    assert fit_answers(joined(many, handful), BINARY, 0.95, 1.0, 0.0).calibration.malignant_shift < 0.4


def test_the_temperature_is_that_inside_the_domains() -> None:
    """With two domains of different prevalence, the score's slope over both together looks flatter than in either."""
    low, high = lesions("low", 3000, -3.0, 4), lesions("high", 3000, 3.0, 5)
    both = joined(low, high)
    logits, malignant = np.log(both.probability), np.concatenate([low[1], high[1]])
    classes, domain = [0, 1], [row.domain for row in both.rows]
    apart = fit_calibration(logits, classes, malignant, malignant.astype(int), domains=domain)
    assert apart.temperature == pytest.approx(2.0, rel=0.1)
    assert fit_calibration(logits, classes, malignant, malignant.astype(int)).temperature > 2.5


def test_lesions_without_a_biopsy_do_not_calibrate_but_all_rows_choose_the_threshold() -> None:
    biopsied, ordinary = lesions("a", 1000, 0.0, 6), lesions("a", 2000, -5.0, 7)
    known: list[bool | None] = [True] * 500 + [None] * 500 + [False] * 2000
    with_all = fit_answers(joined(biopsied, ordinary), BINARY, 0.95, 1.0, 0.0)
    left_out = fit_answers(joined(biopsied, ordinary, biopsied=known), BINARY, 0.95, 1.0, 0.0)
    assert left_out.calibration.malignant_shift == pytest.approx(0.0, abs=0.25)
    assert with_all.calibration.malignant_shift < -1.0
    assert "2000 lesions without a biopsy are left out" in left_out.calibration.method
    assert left_out.calibration.coverage["sensitivity"] >= 0.95


def test_the_threshold_binds_in_each_domain_that_is_large_enough() -> None:
    usual, shy = lesions("usual", 1500, 0.0, 8), lesions("shy", 1500, 4.0, 9)  # "shy" is malignant even at low scores
    fit = fit_answers(joined(usual, shy), BINARY, 0.95, 1.0, 0.0)
    assert min(fit.calibration.coverage[f"sensitivity/domain={name}"] for name in ("usual", "shy")) >= 0.95
    one = (["one"] * 3000, *(np.concatenate(parts) for parts in zip(usual[1:], shy[1:], strict=True)))
    other = fit_answers(joined(one), BINARY, 0.95, 1.0, 0.0)
    assert other.decision.threshold > fit.decision.threshold

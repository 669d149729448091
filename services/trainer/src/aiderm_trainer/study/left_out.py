"""Returns scores of a finished study's models on domains left out of training, calibrated as a bundle would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiderm_trainer.evaluation.learning_curve import DomainScores, Fit
from aiderm_trainer.study.plan import LEAVING_OUT, PlanError
from aiderm_trainer.study.results import load


def domain_scores(study: Path, fit: Fit) -> list[tuple[DomainScores, float]]:
    """Scores of the first recipe's first seed in each domain left out, and the threshold of the model.

    Probabilities and threshold are fitted to the inner validation rows, which come from the domains used in training.

    Args:
        study: folder of a finished study whose folds are domains or sources.
        fit: fits a calibration to malignancies, labels and groups, as ``recalibrate`` does.

    Raises:
        PlanError: the study is not finished, or leaves neither domains nor sources out.
    """
    results = load(study)
    if results.plan.folds not in LEAVING_OUT:
        raise PlanError(
            f"a learning curve takes a study that leaves domains or sources out. Received: folds = {results.plan.folds}"
        )
    recipe = results.plan.recipes[0]
    found = []
    for domain in results.folds:
        key = (recipe.name, domain, recipe.seeds[0])
        if key not in results.held_out:
            raise PlanError(f"{recipe.name} has not finished without {domain}")
        inner, held = results.validation[key], results.held_out[key]
        known = fit(
            inner.score.astype(np.float64), results.malignant[inner.index], [str(group) for group in results.group[inner.index]]
        )
        counted = results.counted[held.index]
        index, score = held.index[counted], held.score[counted].astype(np.float64)
        scores = DomainScores(
            domain, known.apply(score), results.malignant[index], [str(group) for group in results.group[index]]
        )
        found.append((scores, known.threshold))
    return found

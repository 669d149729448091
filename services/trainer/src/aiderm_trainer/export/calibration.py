"""Calibrates probabilities from logits, fitted on the calibration split, which neither training nor selection has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, softmax

from aiderm_trainer.evaluation.metrics import expected_calibration_error

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FOLDS = 5
TEMPERATURES = (0.05, 20.0)
SHIFTS = (-20.0, 20.0)


@dataclass(frozen=True)
class CalibrationFit:
    """Probability = softmax(logits / temperature + malignant_shift x malignant).

    Adding the shift to the malignant logits adds the same value to the log-odds of malignancy.

    Attributes:
        temperature: above 1 softens the probabilities.
        malignant_shift: in log-odds.
        prevalence: share of malignant rows that the probabilities assume.
        method: what was fitted, in words.
        ece_before: expected calibration error of malignancy, equal-mass bins, raw softmax.
        ece_after: the same, calibrated.
    """

    temperature: float
    malignant_shift: float
    prevalence: float
    method: str
    ece_before: float
    ece_after: float


@dataclass(frozen=True)
class _Rows:
    """Calibration rows; ``allowed`` ``[N, C]`` marks the classes that a row's label leaves possible."""

    logits: Floats
    classes: Flags
    malignant: Flags
    allowed: Flags
    weights: Floats
    domain: NDArray[np.intp]

    def take(self, index: Flags) -> _Rows:
        return _Rows(
            self.logits[index], self.classes, self.malignant[index], self.allowed[index], self.weights[index], self.domain[index]
        )

    def nll(self, temperature: float, shift: float) -> float:
        """Mean NLL with one shift for all domains."""
        return self.nll_and_gradient(1.0 / temperature, np.full(self.domain.max(initial=0) + 1, shift))[0]

    def nll_and_gradient(self, inverse: float, shifts: Floats) -> tuple[float, Floats]:
        """Mean NLL and its gradient in (1/temperature, shift of each domain)."""
        scaled = self.logits * inverse + shifts[self.domain][:, None] * self.classes
        possible = np.where(self.allowed, scaled, -np.inf)
        total = self.weights.sum()
        scaled_sum, possible_sum = _log_sum_exp(scaled), _log_sum_exp(possible)
        loss = float(self.weights @ (scaled_sum - possible_sum) / total)
        excess = np.exp(scaled - scaled_sum[:, None]) - np.exp(possible - possible_sum[:, None])
        along = np.bincount(self.domain, self.weights * (excess @ self.classes), minlength=len(shifts))
        return loss, np.append(self.weights @ (excess * self.logits).sum(axis=1), along) / total


def fit_calibration(
    logits: ArrayLike,
    malignant_classes: ArrayLike,
    malignant: ArrayLike,
    class_index: ArrayLike,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    seed: int = 0,
    domains: ArrayLike | None = None,
) -> CalibrationFit:
    """Fits temperature (Guo et al. 2017) and malignant shift by maximum likelihood.

    A row whose class is known contributes that class's probability, any other row the summed probability of the malignant (or
    the benign) classes. The shift undoes the weighting of training, which shows both labels equally often inside each source:
    with it, the mean malignancy of the calibration rows equals their share of malignant ones. The temperature is fitted inside
    domains, each with its own temporary shift: domains differ in how many of their lesions are malignant, and a temperature
    that explained this would be wrong in every one of them. It stays 1 unless it lowers the NLL in a cross-validation that
    keeps groups together.

    Args:
        logits: ``[N, C]``.
        malignant_classes: ``[C]``, 1 for a malignant class.
        malignant: ``[N]``, 0/1.
        class_index: ``[N]``, 0..C-1, or -1 where only benign/malignant is known.
        groups: ``[N]``, images that must stay in one fold; each row by itself when None.
        weights: ``[N]``, how much each row counts; 1 when None.
        seed: seed of the folds.
        domains: ``[N]``, camera, clinic or collection; one domain when None.

    Raises:
        ValueError: shapes that do not fit, non-finite logits, one label only, or a class that contradicts its label.
    """
    rows = _check(logits, malignant_classes, malignant, class_index, weights, domains)
    names = np.arange(len(rows.malignant)) if groups is None else np.asarray(groups)
    with_temperature, without = _cross_validated(rows, names, seed)
    use = with_temperature < without
    temperature, shift = _global_fit(rows, use)

    verdict = "kept" if use else "not kept"
    scored = f"{with_temperature:.4f} with, {without:.4f} without it" if np.isfinite(without) else "too few groups to say"
    method = (
        "malignant shift by maximum likelihood on the calibration split (rows without an exact class count by the summed "
        f"probability of the malignant or benign classes); temperature {verdict}, fitted inside {_counted(rows)}: "
        f"grouped cross-validated NLL {scored}"
    )
    raw = malignancy(rows.logits, rows.classes, 1.0, 0.0)
    calibrated = malignancy(rows.logits, rows.classes, temperature, shift)
    return CalibrationFit(
        temperature=temperature,
        malignant_shift=shift,
        prevalence=float(rows.weights @ rows.malignant / rows.weights.sum()),
        method=method,
        ece_before=expected_calibration_error(rows.malignant, raw, rows.weights[None]).item(),
        ece_after=expected_calibration_error(rows.malignant, calibrated, rows.weights[None]).item(),
    )


def _counted(rows: _Rows) -> str:
    count = int(rows.domain.max()) + 1
    return f"{count} domains" if count > 1 else "one domain"


def _check(
    logits: ArrayLike,
    malignant_classes: ArrayLike,
    malignant: ArrayLike,
    class_index: ArrayLike,
    weights: ArrayLike | None,
    domains: ArrayLike | None,
) -> _Rows:
    values = np.asarray(logits, dtype=np.float64)
    classes, sick = np.asarray(malignant_classes).astype(bool), np.asarray(malignant).astype(bool)
    index = np.asarray(class_index)
    w = np.ones(len(sick)) if weights is None else np.asarray(weights, dtype=np.float64)
    domain = np.zeros(len(sick), np.intp) if domains is None else np.unique(np.asarray(domains), return_inverse=True)[1]
    fits = values.ndim == 2 and values.shape == (len(sick), len(classes)) and index.shape == w.shape == domain.shape == sick.shape
    if not fits:
        raise ValueError(
            f"logits must be [N, C] with N labels and C classes. Received: {values.shape}, {sick.shape}, {classes.shape}, "
            f"class_index {index.shape}, weights {w.shape}, domains {domain.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("logits must be finite")
    if not (np.isfinite(w).all() and (w >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    if classes.all() or not classes.any():
        raise ValueError("there must be at least one malignant and one benign class")
    if not (w[sick].sum() > 0 and w[~sick].sum() > 0):
        raise ValueError(f"both labels are needed. Received: {int(sick.sum())} malignant of {len(sick)} rows")
    if index.max() >= len(classes) or index.min() < -1:
        raise ValueError(f"class_index must lie in -1..{len(classes) - 1}. Received: {index.min()}..{index.max()}")
    known = index >= 0
    contradicting = int((classes[index[known]] != sick[known]).sum())
    if contradicting:
        raise ValueError(f"{contradicting} row(s) whose class contradicts their benign/malignant label")
    allowed = classes[None] == sick[:, None]
    allowed[known] = np.arange(len(classes)) == index[known][:, None]
    return _Rows(values, classes, sick, allowed, w, domain)


def _fit(rows: _Rows, with_temperature: bool) -> tuple[float, Floats]:
    """Fits the temperature and a shift for each domain by maximum likelihood."""
    count = int(rows.domain.max()) + 1
    inverse = 1.0
    if with_temperature:
        bounds = [(1 / TEMPERATURES[1], 1 / TEMPERATURES[0]), *[SHIFTS] * count]
        start = np.append(1.0, np.zeros(count))
        result = minimize(lambda v: rows.nll_and_gradient(v[0], v[1:]), start, jac=True, method="L-BFGS-B", bounds=bounds)
        inverse = float(result.x[0])
    inside = [rows.domain == domain for domain in range(count)]
    return 1.0 / inverse, np.array([_shift(rows.take(here), inverse) if rows.weights[here].sum() > 0 else 0.0 for here in inside])


def _global_fit(rows: _Rows, with_temperature: bool) -> tuple[float, float]:
    """Fits the temperature inside domains, and one shift for all rows."""
    temperature = _fit(rows, with_temperature)[0]
    # The optimiser's last digit must not make things worse; a shift alone is exact.
    candidates = [(t, _shift(rows, 1.0 / t)) for t in (temperature, 1.0)]
    before = rows.nll(1.0, 0.0)
    return next((fit for fit in candidates if rows.nll(*fit) <= before), (1.0, 0.0))


def _shift(rows: _Rows, inverse: float) -> float:
    """Finds the best shift for a given temperature, exactly.

    The likelihood is concave in the shift, and at its optimum the mean malignancy equals the share of malignant rows, whatever
    is known about their classes.
    """
    log_odds = _log_sum_exp(rows.logits[:, rows.classes] * inverse) - _log_sum_exp(rows.logits[:, ~rows.classes] * inverse)
    total = rows.weights.sum()
    share = float(rows.weights @ rows.malignant / total)

    def excess(shift: float) -> float:
        return float(rows.weights @ expit(log_odds + shift) / total) - share

    low, high = SHIFTS
    if excess(low) > 0 or excess(high) < 0:
        return low if excess(low) > 0 else high
    return float(brentq(excess, low, high, xtol=1e-10))


def _cross_validated(rows: _Rows, groups: NDArray[np.generic], seed: int) -> tuple[float, float]:
    """Held-out NLL with and without a temperature; both infinite if a fold leaves only one label to fit to."""
    unique, number = np.unique(groups, return_inverse=True)
    folds = min(FOLDS, len(unique))
    fold = (np.random.default_rng(seed).permutation(len(unique)) % folds)[number]
    losses, total = np.zeros(2), 0.0
    for held_out in range(folds):
        fitted, tested = rows.take(fold != held_out), rows.take(fold == held_out)
        weight = tested.weights.sum()
        if not (fitted.weights[fitted.malignant].sum() > 0 and fitted.weights[~fitted.malignant].sum() > 0):
            return np.inf, np.inf
        if weight == 0:
            continue
        losses += [weight * _held_out(tested, *_fit(fitted, with_temperature)) for with_temperature in (True, False)]
        total += weight
    return float(losses[0] / total), float(losses[1] / total)


def _held_out(tested: _Rows, temperature: float, shifts: Floats) -> float:
    """NLL of held-out rows; a domain that was not in the fit has a shift of 0."""
    known = np.zeros(int(tested.domain.max(initial=0)) + 1)
    known[: len(shifts)] = shifts[: len(known)]
    return tested.nll_and_gradient(1.0 / temperature, known)[0]


def malignancy(logits: Floats, classes: Flags, temperature: float, shift: float) -> Floats:
    """Returns the calibrated malignancy ``[N]`` of logits ``[N, C]``; ``classes`` ``[C]`` marks the malignant ones."""
    probability = softmax(logits / temperature + shift * classes, axis=1)
    return np.clip(probability[:, classes].sum(axis=1), 0.0, 1.0)


def _log_sum_exp(values: Floats) -> Floats:
    """Log-sum-exp over the classes; SciPy's own takes ten times as long on arrays of this size."""
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))

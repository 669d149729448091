"""Compares two ways of reading across readers and cases with the analysis of variance of Obuchowski and Rockette.

The figure of merit of reader j with way of reading i is modelled as theta_ij = mu + tau_i + R_j + (tau R)_ij + e_ij. Readers
are random. The errors are correlated, because all readers read the same cases: Cov1 is the covariance between one reader's two
ways, Cov2 that between two readers in one way, and Cov3 that between two readers in two ways (N. A. Obuchowski, H. E. Rockette,
"Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests", Communications in Statistics: Simulation and
Computation 24 (2), 1995, 285-308). The covariances come from the jackknife over cases. The intervals and the degrees of freedom
are those of S. L. Hillis ("A comparison of denominator degrees of freedom methods for multiple observer ROC studies", Statistics
in Medicine 26, 2007, 596-619; for a single way of reading: "A marginal-mean ANOVA approach for analyzing multireader multicase
radiological imaging data", Statistics in Medicine 33, 2014, 330-360). They generalise to readers and cases like these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
LEVEL: Final = 0.95


@dataclass(frozen=True)
class Interval:
    """A value, its standard error and its 95% interval, which is None where the readings have no variance.

    ``degrees`` are the degrees of freedom, infinite where the normal distribution was used.
    """

    value: float
    standard_error: float
    ci95: tuple[float, float] | None
    degrees: float = math.inf

    @property
    def p(self) -> float | None:
        """p-value of the test that the value is 0; None where the readings have no variance."""
        return 2 * float(stats.t.sf(abs(self.value) / self.standard_error, self.degrees)) if self.standard_error > 0 else None


@dataclass(frozen=True)
class Components:
    """The variance components that the intervals are computed from.

    Attributes:
        ms_treatment: mean square of the ways of reading.
        ms_interaction: mean square of the interaction of ways and readers.
        variance: variance of one figure of merit due to the cases.
        cov1: covariance of one reader, two ways.
        cov2: covariance of two readers, one way.
        cov3: covariance of two readers, two ways.
    """

    ms_treatment: float
    ms_interaction: float
    variance: float
    cov1: float
    cov2: float
    cov3: float


def jackknife_covariance(left_out: Floats) -> Floats:
    """Jackknife covariances of figures of merit, from their values without each case (Efron 1982).

    Args:
        left_out: ``[2, R, K]``, the figure of merit without case k.

    Returns:
        ``[2, R, 2, R]``.
    """
    ways, readers, cases = left_out.shape
    flat = left_out.reshape(ways * readers, cases)
    deviation = flat - flat.mean(axis=1, keepdims=True)
    covariance = deviation @ deviation.T * (cases - 1) / cases
    return np.asarray(covariance.reshape(ways, readers, ways, readers))


def components(figures: Floats, covariance: Floats) -> Components:
    """Computes the mean squares and covariances of two ways of reading.

    Args:
        figures: ``[2, R]``, R at least 2.
        covariance: ``[2, R, 2, R]``, see ``jackknife_covariance``.
    """
    ways, readers = figures.shape
    by_way, by_reader, mean = figures.mean(axis=1), figures.mean(axis=0), figures.mean()
    interaction = figures - by_way[:, None] - by_reader[None] + mean
    same_way, same_reader = np.eye(ways, dtype=bool)[:, None, :, None], np.eye(readers, dtype=bool)[None, :, None]
    everything = np.ones_like(covariance, bool)
    return Components(
        ms_treatment=float(readers * ((by_way - mean) ** 2).sum() / (ways - 1)),
        ms_interaction=float((interaction**2).sum() / ((ways - 1) * (readers - 1))),
        variance=float(covariance[everything & same_way & same_reader].mean()),
        cov1=float(covariance[everything & ~same_way & same_reader].mean()),
        cov2=float(covariance[everything & same_way & ~same_reader].mean()),
        cov3=float(covariance[everything & ~same_way & ~same_reader].mean()),
    )


def difference(figures: Floats, covariance: Floats) -> Interval:
    """The second way minus the first, averaged over readers.

    Args:
        figures: ``[2, R]``; with one reader, the interval holds for that reader alone.
        covariance: ``[2, R, 2, R]``.
    """
    ways, readers = figures.shape
    value = float(np.diff(figures.mean(axis=1))[0])
    if readers == 1:
        return of_one_reader(value, float(covariance[0, 0, 0, 0] + covariance[1, 0, 1, 0] - 2 * covariance[0, 0, 1, 0]))
    found = components(figures, covariance)
    noise = found.ms_interaction + readers * max(found.cov2 - found.cov3, 0.0)
    return _interval(value, 2 * noise / readers, noise, found.ms_interaction, (ways - 1) * (readers - 1))


def single(figures: Floats, covariance: Floats) -> Interval:
    """One way of reading, averaged over readers.

    Args:
        figures: ``[R]``; with one reader, the interval holds for that reader alone.
        covariance: ``[R, R]``.
    """
    readers = len(figures)
    value = float(figures.mean())
    if readers == 1:
        return of_one_reader(value, float(covariance[0, 0]))
    spread = float(figures.var(ddof=1))
    between = (covariance.sum() - np.trace(covariance)) / (readers * (readers - 1))
    noise = spread + readers * max(float(between), 0.0)
    return _interval(value, noise / readers, noise, spread, readers - 1)


def of_one_reader(value: float, variance: float) -> Interval:
    """A given reader's figure of merit, with an interval over cases from the normal distribution."""
    error = float(np.sqrt(max(variance, 0.0)))
    reach = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    return Interval(value, error, (value - reach, value + reach) if error > 0 else None)


def _interval(value: float, variance: float, noise: float, mean_square: float, degrees: int) -> Interval:
    """Interval with Hillis' degrees of freedom: ``degrees`` times the squared ratio of ``noise`` to ``mean_square``."""
    if noise <= 0:
        return Interval(value, 0.0, None)
    error = float(np.sqrt(variance))
    freedom = noise**2 * degrees / mean_square**2 if mean_square > 0 else np.inf
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Interval(value, error, (value - reach, value + reach), float(freedom))

"""Bootstrap intervals (Efron 1979) that resample groups: photos of one lesion are one observation, not several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation.metrics import Floats, unit_weights

REPLICATES = 1000
SEED = 20_180_814
# With a smaller share of defined replicates, an interval would describe only the lucky ones, so none is given.
MIN_DEFINED = 0.95
_BLOCK = 1_000_000  # elements of one weight matrix: 8 MB

Statistic = Callable[[Floats], Mapping[str, Floats]]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its percentile interval.

    Attributes:
        value: the statistic on the rows themselves.
        ci95: 2.5th and 97.5th percentile of the defined replicates; None where too few are defined, or where all are equal: the
            bootstrap cannot see beyond a perfect score, and (1, 1) would claim too much certainty.
        undefined: replicates in which the statistic does not exist (for example, no malignant row was drawn); they are left out.
    """

    value: float
    ci95: tuple[float, float] | None
    undefined: int

    def of_trials(self, trials: int) -> Estimate:
        """Adds the exact interval to a proportion of ``trials`` observations that is 0 or 1 and has no bootstrap interval."""
        if self.ci95 is not None or self.value not in (0.0, 1.0):
            return self
        return replace(self, ci95=exact_interval_at_bound(self.value, trials))

    def metric(self) -> Metric:
        """The estimate in the form that manifests and reports hold."""
        return Metric(value=self.value, ci95=self.ci95)


def replicate_weights(groups: Sequence[str], replicates: int = REPLICATES, seed: int = SEED) -> Iterator[Floats]:
    """How often each row occurs in each replicate, as blocks ``[b, N]`` that add up to ``replicates`` rows.

    Each replicate draws as many groups as there are, with replacement; the rows of a group always come together.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    count = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // max(len(member), count))
    for start in range(0, replicates, size):
        block = min(size, replicates - start)
        draws = rng.integers(0, count, (block, count)) + np.arange(block)[:, None] * count
        times = np.bincount(draws.ravel(), minlength=block * count).reshape(block, count)
        yield times[:, member].astype(np.float64)


def exact_interval_at_bound(value: float, trials: int) -> tuple[float, float]:
    """Clopper-Pearson 95% interval (1934) of a proportion that was 0 or 1 in every one of ``trials`` observations.

    Raises:
        ValueError: the proportion is neither 0 nor 1, or there are no trials.
    """
    if value not in (0.0, 1.0) or trials < 1:
        raise ValueError(f"the proportion must be 0 or 1, of at least one trial. Received: {value} of {trials}")
    reach = 0.025 ** (1 / trials)
    return (reach, 1.0) if value == 1.0 else (0.0, 1.0 - reach)


def bootstrap(groups: Sequence[str], statistic: Statistic, replicates: int = REPLICATES, seed: int = SEED) -> dict[str, Estimate]:
    """Computes point values and 95% percentile intervals.

    Args:
        groups: ``[N]``, the unit that is resampled.
        statistic: takes weights ``[B, N]`` and returns named values ``[B]``, NaN where undefined.
        replicates: number of resamples.
        seed: seed of the draws; the same seed gives the same intervals.

    Returns:
        An estimate for each statistic that is defined on the rows themselves.
    """
    if len(groups) == 0 or replicates < 1:
        raise ValueError(f"there must be rows and replicates. Received: {len(groups)} rows, {replicates=}")
    point = {name: values.item() for name, values in statistic(unit_weights(len(groups))).items()}
    blocks = [statistic(weights) for weights in replicate_weights(groups, replicates, seed)]
    estimates = {}
    for name, value in point.items():
        if not np.isfinite(value):
            continue
        drawn = np.concatenate([block[name] for block in blocks])
        defined = drawn[np.isfinite(drawn)]
        interval = None
        if len(defined) >= MIN_DEFINED * replicates and np.ptp(defined) > 0:
            low, high = np.percentile(defined, [2.5, 97.5])
            interval = (float(low), float(high))
        estimates[name] = Estimate(float(value), interval, replicates - len(defined))
    return estimates

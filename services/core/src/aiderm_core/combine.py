"""Combines the assessments of several images of one lesion into one answer.

The images that count are pooled: the log-odds of malignancy are averaged, which is the logarithmic opinion pool of two outcomes
(Genest and Zidek, "Combining Probability Distributions", Statistical Science 1986). The classes are pooled separately within the
malignant and the benign group, so that the malignancy stays the sum over the malignant classes. Pooling all classes at once would
be harmful: two images that clearly show a cancer but disagree on its kind would make each kind, and so their sum, improbable.

Rejected images do not count. A file that is sent twice counts once, because a copy is not a second photograph that agrees. A
missed cancer costs more than a needless visit, so the images support a low suspicion only if none of them speaks against it:

- An image of doubtful quality may raise the suspicion but not lower it. If it lies below the threshold, it counts only if no
  other image does; then the lesion is uncertain, as the image is.
- An image that is suspicious on its own rules out a low suspicion of the lesion, whatever the mean is.
- Images on both sides of the uncertain band disagree, and so do an image below the band and one inside it if their log-odds
  differ by more than ``SPREAD_LIMIT``; then the answer is uncertain. The photographs may show two lesions, or only one of them
  may show the part that matters; a mean would hide either.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiderm_core.assess import ImageAssessment
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.decision import Decision, Reason, Verdict, decide
from aiderm_core.most_likely import MostLikely, most_likely

MIN_IMAGES: Final = 2
MAX_IMAGES: Final = 8
SPREAD_LIMIT: Final = 2.0
"""Difference of log-odds beyond which an image in the uncertain band and one below it disagree.

For the model melanoma 5, two views of one image differ by less in 96% of 775 validation images."""
QUALITY: Final = "quality"
"""Code of the reason that an image's quality is too low to support a low suspicion."""
_SMALLEST: Final = 1e-6  # keeps a single extreme image from outweighing all others


@dataclass(frozen=True)
class View:
    """What one image of a lesion contributes.

    Attributes:
        probabilities: ``[C]``, 0..1, in the manifest's label order.
        malignancy: 0..1.
        doubtful: the image's quality is too low to support a low suspicion, and its malignancy lies below the threshold.
    """

    probabilities: NDArray[np.floating]
    malignancy: float
    doubtful: bool

    @classmethod
    def of(cls, found: ImageAssessment) -> View | None:
        """Returns the view of an assessed image; None if it was rejected."""
        if found.verdict.decision is Decision.REJECTED:
            return None
        return cls(found.probabilities, found.malignancy, any(reason.code == QUALITY for reason in found.verdict.reasons))


@dataclass(frozen=True)
class Spread:
    """The spread of the images that count.

    Attributes:
        log_odds_sd: sample standard deviation (n - 1) of the log-odds of malignancy.
        log_odds: the lowest and the highest.
        probability: the lowest and the highest malignancy.
    """

    log_odds_sd: float
    log_odds: tuple[float, float]
    probability: tuple[float, float]


@dataclass(frozen=True)
class Disagreement:
    """0-based indices of the images that disagree: ``lower`` are those below the uncertain band, ``higher`` the others."""

    higher: tuple[int, ...]
    lower: tuple[int, ...]


@dataclass(frozen=True)
class CombinedAssessment:
    """The assessment of a lesion from several images.

    Attributes:
        counted: 0-based indices of the images that count.
        probabilities: float64 ``[C]``, sum to 1; None if no image counts.
        malignancy: 0..1, the sum over malignant classes; None if no image counts.
        most_likely: see ``aiderm_core.most_likely``.
        spread: None if fewer than two images count.
        disagreement: None if the images agree.
        verdict: the decision and its reasons.
    """

    counted: tuple[int, ...]
    probabilities: NDArray[np.float64] | None
    malignancy: float | None
    most_likely: MostLikely | None
    spread: Spread | None
    disagreement: Disagreement | None
    verdict: Verdict


def copies(files: Sequence[Hashable]) -> frozenset[int]:
    """0-based indices of the files (or digests) that repeat an earlier one."""
    first: dict[Hashable, int] = {}
    return frozenset(index for index, file in enumerate(files) if first.setdefault(file, index) != index)


def combine(views: Sequence[View | None], manifest: Manifest, rule: DecisionRule) -> CombinedAssessment:
    """Combines the images of one lesion.

    Args:
        views: one for each image; None for an image that was rejected, could not be read, or is one of ``copies``.
        manifest: manifest of the model that assessed them.
        rule: threshold and uncertain band that applied to each image; they apply to the lesion too.
    """
    accepted = {index: view for index, view in enumerate(views) if view is not None}
    counting = {index: view for index, view in accepted.items() if not view.doubtful} or accepted
    if not counting:
        reason = Reason("no_image", "None of the pictures allows an assessment.")
        return CombinedAssessment((), None, None, None, None, None, Verdict(Decision.REJECTED, (reason,)))
    odds = {index: log_odds(view.malignancy) for index, view in counting.items()}
    malignancy = 1.0 / (1.0 + math.exp(-math.fsum(odds.values()) / len(odds)))
    malignant = np.array([label.malignant for label in manifest.labels])
    probabilities = _pooled_classes([view.probabilities for view in counting.values()], malignancy, malignant)
    disagreement = _disagreement(counting, odds, rule)
    doubtful = all(view.doubtful for view in counting.values())
    return CombinedAssessment(
        counted=tuple(counting),
        probabilities=probabilities,
        malignancy=malignancy,
        most_likely=most_likely(probabilities, manifest),
        spread=_spread(counting, odds),
        disagreement=disagreement,
        verdict=_verdict(malignancy, doubtful, disagreement, manifest, rule),
    )


def log_odds(probability: float) -> float:
    """Natural logarithm of p / (1 - p), with p limited to 1e-6..1 - 1e-6."""
    bounded = min(max(probability, _SMALLEST), 1.0 - _SMALLEST)
    return math.log(bounded / (1.0 - bounded))


def _pooled_classes(
    probabilities: Sequence[NDArray[np.floating]], malignancy: float, malignant: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The normalised geometric mean of the images' shares in each group; the malignancy sets the groups' weights."""
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST**2)).mean(axis=0)
    pooled: NDArray[np.float64] = np.empty(len(malignant))
    for group, weight in ((malignant, malignancy), (~malignant, 1.0 - malignancy)):
        shares = np.exp(logs[group] - logs[group].max())
        pooled[group] = weight * shares / shares.sum()
    return pooled


def _spread(views: Mapping[int, View], odds: Mapping[int, float]) -> Spread | None:
    if len(odds) < MIN_IMAGES:
        return None
    malignancy = [view.malignancy for view in views.values()]
    return Spread(
        float(np.std(list(odds.values()), ddof=1)),
        (min(odds.values()), max(odds.values())),
        (min(malignancy), max(malignancy)),
    )


def _disagreement(views: Mapping[int, View], odds: Mapping[int, float], rule: DecisionRule) -> Disagreement | None:
    low, high = rule.uncertain
    lower = tuple(index for index, view in views.items() if view.malignancy < low)
    higher = tuple(index for index, view in views.items() if view.malignancy >= low)
    if not lower or not higher:
        return None
    suspicious = any(views[index].malignancy > high for index in higher)
    apart = max(odds.values()) - min(odds.values()) > SPREAD_LIMIT
    return Disagreement(higher, lower) if suspicious or apart else None


def _verdict(
    malignancy: float, doubtful: bool, disagreement: Disagreement | None, manifest: Manifest, rule: DecisionRule
) -> Verdict:
    found = decide(malignancy, -math.inf, {}, (), manifest, rule)
    reasons = [reason for reason in found.reasons if reason.code != "threshold"]
    if doubtful:
        reasons.append(Reason(QUALITY, "The quality of all pictures is too low to support a low suspicion."))
    if disagreement is not None:
        lower, higher = _named(disagreement.lower), _named(disagreement.higher)
        text = f"The pictures disagree: the estimate is low for {lower} alone, but not for {higher} alone."
        reasons.append(Reason("disagreement", text))
    return Verdict(Decision.UNCERTAIN, tuple(reasons)) if reasons else found


def _named(indices: Sequence[int]) -> str:
    """Names images by their 1-based numbers, as people count them."""
    numbers = [str(index + 1) for index in indices]
    return f"picture {numbers[0]}" if len(numbers) == 1 else f"pictures {', '.join(numbers[:-1])} and {numbers[-1]}"

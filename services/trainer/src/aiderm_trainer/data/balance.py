"""Computes how often each row is drawn, and how much its domain reveals about its label.

Labels are balanced inside each domain as far as possible without repeating an image too often. The remaining imbalance goes
into a domain offset: the log-odds of malignancy among the rows drawn from that domain. It is added to the logits during training
and dropped afterwards, so the network gains nothing from recognising the domain (logit adjustment, Menon et al., ICLR 2021;
product of experts with a bias-only model, Clark et al., EMNLP 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REPEATS = 4.0  # an image is drawn at most this many times as often as the average image
PRIOR = 10.0  # weight of the overall share of malignant rows in a domain's share, in images


def balanced_weights(domains: Sequence[str], malignant: NDArray[np.bool_], classes: Sequence[str]) -> NDArray[np.float64]:
    """The probability of drawing each row: both labels are equally likely inside each domain, within the limit of ``REPEATS``.

    A domain is weighted by the square root of its size, and so is a class among the rows of one label in a domain.

    Args:
        domains: the domain of each row.
        malignant: bool ``[N]``.
        classes: dx of each row, empty where it is unknown.

    Returns:
        float64 ``[N]`` that sums to 1.
    """
    keys = list(zip(domains, malignant.tolist(), classes, strict=True))
    domain, leaf = Counter(k[0] for k in keys), Counter(keys)
    spread: dict[tuple[str, bool], float] = {}
    for (name, sick, _), count in leaf.items():
        spread[name, sick] = spread.get((name, sick), 0.0) + count**0.5
    weights = np.array(
        [domain[d] ** 0.5 * 0.5 * (leaf[d, m, c] ** 0.5 / spread[d, m]) / leaf[d, m, c] for d, m, c in keys], np.float64
    )
    for _ in range(20):
        weights = np.minimum(weights / weights.sum(), REPEATS / len(weights))
    return weights / weights.sum()


def domain_offsets(domains: Sequence[str], malignant: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Log-odds of malignancy among the rows drawn from each row's domain, minus those of all drawn rows.

    Args:
        domains: the domain of each row.
        malignant: bool ``[N]``.
        weights: the probability of drawing each row.

    Returns:
        float32 ``[N]``; shrunk towards 0 where a domain has few images.
    """
    overall = float(weights[malignant].sum() / weights.sum())
    names = np.asarray(domains)
    offsets = np.zeros(len(names), np.float32)
    for name in np.unique(names):
        here = names == name
        share = weights[here & malignant].sum() / weights[here].sum()
        count = int(here.sum())
        share = (share * count + PRIOR * overall) / (count + PRIOR)
        offsets[here] = np.log(share / (1 - share)) - np.log(overall / (1 - overall))
    return offsets

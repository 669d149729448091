"""Measures how well the score separates biopsied lesions within one domain, and how much of it reflects the camera.

Over a whole archive, a score gains from recognising the camera, since the share of malignant lesions differs between cameras.
Within one domain (camera, clinic or collection) that does not help, and a lesion that was biopsied looked suspicious to a
dermatologist. Those are the figures that count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import Estimate, bootstrap
from aiderm_trainer.evaluation.cohorts import Cohort
from aiderm_trainer.evaluation.report_part import ReportPart

MIN_CASES = 10  # groups of each label that an AUC needs
MIN_CALIBRATION = 50  # images of a domain that an expected calibration error needs
MIN_NAEVI = 20  # unbiopsied naevi of each of two cameras
SENSITIVITY = 0.95
NAEVUS = "nv"

Flags = NDArray[np.bool_]


class DomainFigures(ReportPart):
    """Figures of one domain.

    Attributes:
        name: name of the domain.
        biopsy_known: whether its table says which lesions were biopsied; if so, the AUC is that of the biopsied ones.
        benign, malignant: numbers of images that the AUC is computed from.
        images: number of all images of the domain, from which ``ece`` is computed.
        auc: ROC AUC; None with fewer than ``MIN_CASES`` groups of a label.
        ece: expected calibration error of malignancy; None with fewer than ``MIN_CALIBRATION`` images.
        ece_bound: value that a perfectly calibrated model stays below in 95% of draws of the labels.
    """

    name: str
    biopsy_known: bool
    benign: int
    malignant: int
    images: int
    auc: Metric | None
    ece: Metric | None
    ece_bound: float | None


class CameraAuc(ReportPart):
    """How well the score tells two domains apart on naevi that nobody biopsied.

    Attributes:
        higher, lower: domains with the larger and the smaller share of malignant images.
        higher_count, lower_count: numbers of naevi.
        auc: chance that a naevus of ``higher`` scores above one of ``lower``; 0.5 means that the score ignores the camera.
    """

    higher: str
    lower: str
    higher_count: int
    lower_count: int
    auc: Metric


class DomainReport(ReportPart):
    """Figures on biopsied lesions and on domains in one split.

    Attributes:
        split: the split that the images are from.
        biopsied: metrics over all lesions that are known to be biopsied, ``mean_auc_inside`` (mean over the domains of the
            AUC on biopsied lesions) and ``mean_auc_inside_all`` (the same, plus all lesions of domains whose table does not say).
        domains: in the order of their names.
        cameras: pairs of domains with enough unbiopsied naevi.
    """

    split: str
    biopsied: dict[str, Metric]
    domains: list[DomainFigures]
    cameras: list[CameraAuc]

    def metrics(self) -> dict[str, dict[str, Metric]]:
        """The figures that the manifest repeats: ``SPLIT/biopsied``, ``SPLIT/domain=NAME`` and ``SPLIT/cameras``."""
        out = {f"{self.split}/biopsied": self.biopsied} if self.biopsied else {}
        for each in self.domains:
            stated = {"roc_auc": each.auc, "ece": each.ece}
            if each.ece_bound is not None:
                stated["ece_bound"] = Metric(value=each.ece_bound)
            if found := {name: value for name, value in stated.items() if value is not None}:
                out[f"{self.split}/domain={each.name}"] = found
        if self.cameras:
            pairs = {f"camera_auc: {each.higher} above {each.lower}": each.auc for each in self.cameras}
            out[f"{self.split}/cameras"] = pairs
        return out


def measure_domains(
    of: Cohort,
    domains: Sequence[str],
    biopsied: Sequence[bool | None],
    manifest: Manifest,
    split: str,
    *,
    replicates: int,
    seed: int,
) -> DomainReport:
    """Computes metrics on biopsied lesions, within each domain and of the camera itself, with group-bootstrap intervals.

    Args:
        of: N rows of one split.
        domains: N names.
        biopsied: N flags; None where the table does not say.
        manifest: manifest of the bundle that answered.
        split: the split that the rows belong to.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.

    Raises:
        ValueError: lists whose lengths differ.
    """
    if not len(domains) == len(biopsied) == len(of.groups):
        raise ValueError(f"{len(of.groups)} rows need as many domains. Received: {len(domains)}, {len(biopsied)}")
    split_up = _Domains(of, np.array(domains), biopsied, manifest)
    found = bootstrap(of.groups, split_up.statistic, replicates, seed)
    was = split_up.was
    overall = {"n": Metric(value=float(was.sum())), "n_malignant": Metric(value=float((was & of.malignant).sum()))}
    overall |= {name: _metric(name, each, of, was) for name, each in found.items() if " " not in name}
    return DomainReport(
        split=split,
        biopsied=overall if was.any() else {key: value for key, value in overall.items() if key.startswith("mean_")},
        domains=[split_up.figures(name, found, seed) for name in split_up.names],
        cameras=[split_up.camera(*pair, found) for pair in split_up.pairs if "camera {} {}".format(*pair) in found],
    )


class _Domains:
    """The rows of each domain, and what is measured on them.

    Attributes:
        names: of the domains, in order.
        was: N flags, whether the lesion is known to have been biopsied.
        pairs: domains to tell apart on unbiopsied naevi, the one with the larger share of malignant images first.
    """

    def __init__(self, of: Cohort, domain: NDArray[np.str_], biopsied: Sequence[bool | None], manifest: Manifest) -> None:
        self._of, self._domain, self._manifest = of, domain, manifest
        self.was, was_not = (np.array([flag is wanted for flag in biopsied]) for wanted in (True, False))
        self.names = [str(name) for name in np.unique(domain)]
        self._known = {name: bool((self.was | was_not)[domain == name].any()) for name in self.names}
        self._assessed = {name: (domain == name) & (self.was if self._known[name] else True) for name in self.names}
        self._enough = {name: rows for name, rows in self._assessed.items() if _enough(of, rows)}
        self._naevi = was_not & np.array([label == _naevus(manifest) for label in of.class_index])
        self.pairs = _pairs(of, domain, self._naevi, self.names)

    def statistic(self, weights: metrics.Floats) -> Mapping[str, metrics.Floats]:
        """Computes metrics of the biopsied lesions, and ``domain NAME``, ``ece NAME`` and ``camera NAME NAME``."""
        of, domain = self._of, self._domain
        out = _biopsied_metrics(of, self.was, self._manifest, weights)
        inside = {name: _auc(of, rows, weights) for name, rows in self._enough.items()}
        out |= {f"domain {name}": value for name, value in inside.items()}
        means = {"mean_auc_inside": [name for name in inside if self._known[name]], "mean_auc_inside_all": list(inside)}
        out |= {key: np.mean([inside[name] for name in of_them], axis=0) for key, of_them in means.items() if of_them}
        for name in self.names:
            rows = domain == name
            if rows.sum() >= MIN_CALIBRATION:
                out[f"ece {name}"] = metrics.expected_calibration_error(of.malignant[rows], of.malignancy[rows], weights[:, rows])
        for higher, lower in self.pairs:
            rows = self._naevi & ((domain == higher) | (domain == lower))
            out[f"camera {higher} {lower}"] = metrics.roc_auc(domain[rows] == higher, of.malignancy[rows], weights[:, rows])
        return out

    def figures(self, name: str, found: Mapping[str, Estimate], seed: int) -> DomainFigures:
        """Collects the figures of one domain."""
        rows, auc, ece = self._domain == name, found.get(f"domain {name}"), found.get(f"ece {name}")
        return DomainFigures(
            name=name,
            biopsy_known=self._known[name],
            benign=int((self._assessed[name] & ~self._of.malignant).sum()),
            malignant=int((self._assessed[name] & self._of.malignant).sum()),
            images=int(rows.sum()),
            auc=None if auc is None else auc.metric(),
            ece=None if ece is None else ece.metric(),
            ece_bound=metrics.ece_bound(self._of.malignancy[rows], seed=seed) if ece is not None else None,
        )

    def camera(self, higher: str, lower: str, found: Mapping[str, Estimate]) -> CameraAuc:
        """Collects how well the score tells two domains apart."""
        counts = [int((self._naevi & (self._domain == name)).sum()) for name in (higher, lower)]
        auc = found[f"camera {higher} {lower}"]
        return CameraAuc(
            higher=higher, lower=lower, higher_count=counts[0], lower_count=counts[1], auc=Metric(value=auc.value, ci95=auc.ci95)
        )


def _naevus(manifest: Manifest) -> int:
    """Index of the naevus label; -2, which no row has, if there is none."""
    ids = [label.id for label in manifest.labels]
    return ids.index(NAEVUS) if NAEVUS in ids else -2


def _enough(of: Cohort, rows: Flags) -> bool:
    groups = np.array(of.groups)
    return all(len(np.unique(groups[rows & label])) >= MIN_CASES for label in (of.malignant, ~of.malignant))


def _pairs(of: Cohort, domain: NDArray[np.str_], naevi: Flags, names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of domains with enough unbiopsied naevi, the one with the larger share of malignant images first."""
    usable = [name for name in names if (naevi & (domain == name)).sum() >= MIN_NAEVI]
    share = {name: float(of.malignant[domain == name].mean()) for name in usable}
    ordered = sorted(usable, key=lambda name: (-share[name], name))
    return list(combinations(ordered, 2))


def _auc(of: Cohort, rows: Flags, weights: metrics.Floats) -> metrics.Floats:
    return metrics.roc_auc(of.malignant[rows], of.malignancy[rows], weights[:, rows])


def _biopsied_metrics(of: Cohort, was: Flags, manifest: Manifest, weights: metrics.Floats) -> dict[str, metrics.Floats]:
    if not was.any():
        return {}
    y, score, w = of.malignant[was], of.malignancy[was], weights[:, was]
    counts = metrics.sweep(y, score, w)
    called = score >= manifest.decision.threshold
    out = {
        "roc_auc": metrics.roc_auc_of(counts),
        f"specificity_at_sensitivity_{SENSITIVITY:.2f}": metrics.specificity_at_sensitivity(counts, SENSITIVITY),
        "sensitivity": metrics.share(called, w, y),
        "specificity": metrics.share(~called, w, ~y),
        "sensitivity_melanoma": metrics.share(called, w, of.melanoma[was]),
    }
    ids = [label.id for label in manifest.labels]
    if "mel" in ids:
        known = was & (of.dx_known | ~of.malignant)
        score_of = of.probability[known, ids.index("mel")]
        out["melanoma_auc"] = metrics.roc_auc(of.melanoma[known], score_of, weights[:, known])
    return out


def _metric(name: str, found: Estimate, of: Cohort, was: Flags) -> Metric:
    among = {"sensitivity": of.malignant, "specificity": ~of.malignant, "sensitivity_melanoma": of.melanoma}
    if name in among:
        found = found.of_trials(len(np.unique(np.array(of.groups)[was & among[name]])))
    return found.metric()

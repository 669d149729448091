"""Builds every table of a report once; the card shows it as Markdown, the page as HTML, the command in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Final

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation.domain_metrics import SENSITIVITY
from aiderm_trainer.evaluation.findings import Findings
from aiderm_trainer.evaluation.learning_curve import CurvePoint
from aiderm_trainer.evaluation.orientation import DEFINITIONS as ORIENTATIONS
from aiderm_trainer.evaluation.outline_agreement import DEFINITIONS as OUTLINES
from aiderm_trainer.evaluation.subgroups import TESTED, Subgroup
from aiderm_trainer.evaluation.worst_errors import WorstError
from aiderm_trainer.reporting.wording import (
    CALIBRATION,
    DECISIONS,
    OVERALL,
    cell,
    cohort_keys,
    cohort_title,
    describe,
    ece_verdict,
    is_levelled,
)

SHOWN_ERRORS: Final = 10
# Published figures on biopsied or suspicious lesions: name, sensitivity, specificity.
PUBLISHED: Final = (
    ("DermaSensor (FDA De Novo)", "0.955", "0.207"),
    ("DERM (NHS, 29,453 outcomes), counting biopsies only", "0.97", "0.29"),
    ("ADAE (SIIM-ISIC 2020 winner), prospective, 8 hospitals", "0.921", "0.673"),
    ("Dermatologists in the same study as ADAE", "0.734", "0.828"),
)

Metrics = Mapping[str, Mapping[str, Metric]]


@dataclass(frozen=True)
class Table:
    """A table of text cells; ``marked`` holds the 0-based indices of rows that need attention."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: frozenset[int] = field(default_factory=frozenset)


def headline(metrics: Metrics, split: str) -> Table | None:
    """Figures on biopsied lesions, overall and inside cameras, beside those of published devices; None if there are none."""
    found = metrics.get(f"{split}/biopsied", {})
    if "roc_auc" not in found:
        return None
    at = f"specificity_at_sensitivity_{SENSITIVITY:.2f}"
    rows = [
        ["**This model at its threshold**", cell(found.get("sensitivity")), cell(found.get("specificity")), "-"],
        [f"This model at {SENSITIVITY:.0%} sensitivity", f"{SENSITIVITY:.2f}", cell(found.get(at)), "-"],
        ["This model, all biopsied lesions", "-", "-", cell(found["roc_auc"])],
        ["**This model, inside a camera (mean over cameras)**", "-", "-", cell(found.get("mean_auc_inside"))],
        ["This model, melanoma against the rest", "-", "-", cell(found.get("melanoma_auc"))],
        *([name, sensitivity, specificity, "-"] for name, sensitivity, specificity in PUBLISHED),
    ]
    count, sick = (f"{found[name].value:.0f}" for name in ("n", "n_malignant"))
    title = f"Biopsied lesions of the {split} images: {count}, of which {sick} malignant"
    return Table(title, ["on biopsied or suspicious lesions", "sensitivity", "specificity", "ROC AUC"], rows)


def left_out(findings: Findings) -> Table | None:
    """Trained on all domains but one, tested on that one; the last row is the mean over the domains."""
    title, found = "Trained on all domains but one, tested on that one", findings.left_out
    table = _by_metric(title, "domain left out", found)
    if table and len(found) > 1:
        columns = dict.fromkeys(name for figures in found.values() for name in figures)
        means = [mean(figures[name].value for figures in found.values() if name in figures) for name in columns]
        last = [f"**mean of {len(found)} domains**", *(f"{value:.3f}" for value in means)]
        return replace(table, rows=[*table.rows, last])
    return table


def domains(findings: Findings) -> Table | None:
    """AUC and calibration inside each domain."""
    if findings.domains is None:
        return None
    rows = [
        [
            each.name,
            "biopsied lesions" if each.biopsy_known else "all lesions",
            f"{each.malignant} of {each.benign + each.malignant}",
            cell(each.auc),
            cell(each.ece),
            "-" if each.ece_bound is None else f"{each.ece_bound:.3f}",
            "-" if each.ece is None or each.ece_bound is None else "yes" if each.ece.value > each.ece_bound else "no",
        ]
        for each in findings.domains.domains
    ]
    header = ["domain", "measured on", "malignant", "ROC AUC", "calibration error (ECE), all lesions", "bound", "ECE above bound"]
    return Table("Inside each domain", header, rows)


def cameras(findings: Findings) -> Table | None:
    """How well the score tells two cameras apart on naevi that nobody biopsied."""
    if findings.domains is None or not findings.domains.cameras:
        return None
    rows = [
        [f"{each.higher} above {each.lower}", f"{each.higher_count} and {each.lower_count}", cell(each.auc)]
        for each in findings.domains.cameras
    ]
    title = "How well the score tells the camera, on naevi that nobody biopsied (0.5: it does not)"
    return Table(title, ["cameras", "naevi", "ROC AUC"], rows)


def results(metrics: Metrics, split: str) -> list[Table]:
    """Every metric of a split and of each source inside it."""
    keys = cohort_keys(metrics, split)
    header = ["", *(cohort_title(key) for key in keys)]
    everything = list(dict.fromkeys(name for key in keys for name in metrics[key]))
    blocks = {
        "Images": [name for name in everything if name == "n" or name.startswith("n_")],
        "Discrimination, at the threshold where one is needed": list(OVERALL),
        "Decisions as served, with the uncertain band and rejections": list(DECISIONS),
        "Calibration": list(CALIBRATION),
        "Operating points, and predictive values at stated prevalences": [name for name in everything if is_levelled(name)],
    }
    tables = []
    for title, names in blocks.items():
        rows = [
            [
                "images" if name == "n" else describe(name.removeprefix("n_")),
                *(_count(metrics[key].get(name)) if title == "Images" else cell(metrics[key].get(name)) for key in keys),
            ]
            for name in names
            if any(name in metrics[key] for key in keys)
        ]
        if title == "Calibration" and rows:
            rows.append(["The error against that bound", *(ece_verdict(metrics[key]) for key in keys)])
        if rows:
            tables.append(Table(title, header, rows))
    return tables


def subgroups(findings: Findings) -> Table | None:
    """Each subgroup against the rest of its family."""
    if not findings.subgroups:
        return None
    header = ["family", "subgroup", "images", "malignant", *(describe(name) for name in TESTED), "against the rest"]
    rows = [
        [
            each.family,
            each.name,
            str(each.count),
            str(each.malignant),
            *(cell(each.metrics.get(n)) for n in TESTED),
            verdict(each),
        ]
        for each in findings.subgroups
    ]
    marked = frozenset(i for i, each in enumerate(findings.subgroups) if each.worse)
    return Table("Two-sided bootstrap against the rest of the family, corrected by Holm", header, rows, marked)


def verdict(each: Subgroup) -> str:
    """Names the metrics on which a subgroup is significantly worse, and those for which it has too few cases to tell."""
    said = []
    if each.worse:
        said.append("worse: " + ", ".join(describe(name) for name in each.worse))
    if each.too_few:
        said.append("too few to tell: " + ", ".join(describe(name) for name in each.too_few))
    return "; ".join(said) or "no difference shown"


def held(findings: Findings) -> Table | None:
    """Numbers of images of the kinds that are rare in public collections."""
    if not findings.held:
        return None
    rows = [[e.side, e.kind, str(e.images), str(e.malignant), str(e.melanoma), str(e.known)] for e in findings.held]
    return Table(
        "What could be counted", ["side", "kind", "images", "malignant", "melanoma", "images of which it is known"], rows
    )


def stress(findings: Findings) -> Table | None:
    """The effect of each artefact."""
    if findings.stress is None:
        return None
    title = f"Artefacts drawn on {findings.stress.count} {findings.stress.split} images"
    return _by_metric(title, "artefact", findings.stress.artefacts)


def _explained(title: str, metrics: Mapping[str, Metric], meanings: Mapping[str, str]) -> Table:
    """A table of figures, each with a sentence that explains it."""
    rows = [[describe(name), cell(metrics.get(name)), meaning] for name, meaning in meanings.items()]
    return Table(title, ["measure", "value", "meaning"], rows)


def orientations(findings: Findings) -> Table | None:
    """The effect of rotating and mirroring images."""
    found = findings.orientations
    if found is None:
        return None
    return _explained(f"{found.count} {found.split} images in eight orientations", found.metrics, ORIENTATIONS)


def outlines(findings: Findings) -> Table | None:
    """Agreement of the heatmap with lesion outlines, and figures on images with the lesion painted over."""
    found = findings.outlines
    if found is None:
        return None
    meanings = {name: OUTLINES[name] for name in found.metrics if name not in ("dice", "jaccard")}
    which = "biopsied ones" if found.biopsied_only else "all"
    title = (
        f"{found.count} images with an outline; painted over: {found.painted} ({which}); {found.blank} blank heatmaps, "
        f"{found.unpaintable} images with too little skin to paint with"
    )
    return _explained(title, found.metrics, meanings)


def drawn_outlines(findings: Findings) -> Table | None:
    """Agreement of the model's outlines with hand-drawn ones, over all images and inside each domain."""
    found = findings.outlines
    if found is None or "dice" not in found.metrics:
        return None
    rows = [[name, cell(own["dice"]), cell(own["jaccard"])] for name, own in {"all": found.metrics, **found.domains}.items()]
    return Table(f"{found.count} {found.split} images with a hand-drawn outline", ["domain", "Dice", "Jaccard"], rows)


def close_ups(findings: Findings) -> Table | None:
    """Photographs taken without a dermatoscope."""
    found = findings.close_ups
    if found is None:
        return None
    rows = [
        ["wrongly accepted", cell(found.accepted)],
        ["AUROC of novelty against lesions", cell(found.auroc)],
        ["lesions rejected", cell(found.lesions_rejected)],
    ]
    return Table(f"{found.count} photographs, {found.undecodable} undecodable", ["measure", "value"], rows)


def learning_curve(findings: Findings) -> Table | None:
    """The effect of recalibrating with local images, averaged over the left-out domains that have that many images."""
    if not findings.learning_curve:
        return None
    points: dict[int, list[CurvePoint]] = {}
    for point in findings.learning_curve:
        points.setdefault(point.images, []).append(point)
    rows = [
        [
            str(images) if images else "none: as it came",
            str(len(each)),
            f"{mean(p.ece for p in each):.3f} ({mean(p.ece_high for p in each):.3f})",
            f"{mean(p.within_bound for p in each):.0%}",
            f"{mean(p.sensitivity for p in each):.3f} ({mean(p.sensitivity_low for p in each):.3f})",
            f"{mean(p.specificity for p in each):.3f}",
        ]
        for images, each in sorted(points.items())
    ]
    header = [
        "local images",
        "domains",
        "ECE (9 of 10 below)",
        "draws within bound",
        "sensitivity (9 of 10 above)",
        "specificity",
    ]
    return Table("Recalibrated with images of a domain that was left out, tested on its other images", header, rows)


def worst_errors(errors: Sequence[WorstError]) -> list[Table]:
    """The worst errors of each kind; images are identified by checksum."""
    tables = []
    for kind, title in (("missed", "Malignant, with the lowest malignancy"), ("false_alarm", "Benign, with the highest")):
        shown = [each for each in errors if each.error == kind][:SHOWN_ERRORS]
        rows = [[e.sha256[:16], e.source, e.dx or "unknown", f"{e.malignancy:.3f}", e.decision.replace("_", " ")] for e in shown]
        if rows:
            tables.append(Table(title, ["sha256", "source", "diagnosis", "malignancy", "decision"], rows))
    return tables


def _by_metric(title: str, corner: str, of: Metrics) -> Table | None:
    """A table with one row per key and one column per metric."""
    if not of:
        return None
    names = list(dict.fromkeys(name for values in of.values() for name in values))
    rows = [[key.replace("_", " "), *(cell(values.get(name)) for name in names)] for key, values in of.items()]
    return Table(title, [corner, *(describe(name) for name in names)], rows)


def _count(metric: Metric | None) -> str:
    return "-" if metric is None else f"{metric.value:.0f}"

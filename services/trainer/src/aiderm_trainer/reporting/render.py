"""Renders the model card (Markdown) and the report page (HTML); every number comes from the manifest or the report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from aiderm_core import DISCLAIMER
from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_trainer.evaluation.cohorts import main_split
from aiderm_trainer.evaluation.findings import NO_FINDINGS, Findings
from aiderm_trainer.evaluation.report_schema import EvaluationReport
from aiderm_trainer.evaluation.stress import DEFINITIONS as STRESS
from aiderm_trainer.evaluation.subgroups import MIN_CASES
from aiderm_trainer.reporting import tables
from aiderm_trainer.reporting.wording import cell, describe, ece_verdict, number, percent, used_settings

_SUMMARY: Final = ("roc_auc", "melanoma_auc", "multiclass_balanced_accuracy_even", "sensitivity", "specificity", "ece")
_ALT: Final = {
    "roc": "ROC curves of all sources together and of each",
    "pr": "precision and recall",
    "reliability": "observed share of malignant lesions against predicted probability",
    "decision_curve": "net benefit against threshold probability",
    "histogram": "distribution of the malignancy by label",
    "confusion": "confusion matrix of the classes",
    "training": "loss and AUC by epoch",
    "stress": "AUC lost and share of flipped images by artefact",
    "subgroups": "ROC AUC of each subgroup with its interval",
}


def render_card(manifest: Manifest, extras: Mapping[str, str] | None = None, findings: Findings = NO_FINDINGS) -> str:
    """Renders MODEL_CARD.md (Mitchell et al. 2019).

    Args:
        manifest: complete, with its metrics.
        extras: further sections, heading -> Markdown text, put before the disclaimer; their author is responsible for them.
        findings: of the report; the card states what was not measured.
    """
    metrics = {**manifest.metrics, **findings.metrics()}
    splits = sorted({key.split("/")[0] for key in manifest.metrics if "/" not in key})
    split = main_split(splits) if splits else ""
    text = render(
        "card.md.j2",
        manifest=manifest,
        metrics=metrics,
        biopsied=metrics.get(f"{split}/biopsied", {}),
        overall=metrics.get(split, {}),
        splits=splits,
        split=split,
        findings=findings,
        extras=extras or {},
        binds=re.search(r"\bNC\b|non-?commercial", manifest.data.licence, re.IGNORECASE) is not None,
    )
    return without_gaps(text)


def render_page(report: EvaluationReport, pictures: Sequence[str]) -> str:
    """Renders report.html: one page without scripts, to open from disk or print; the plots are PNG files beside it.

    Args:
        report: the page's content.
        pictures: names of the plots' files.
    """
    main = report.metrics[report.main]
    metrics = {**report.metrics, **report.findings.metrics()}
    return render(
        "report.html.j2",
        report=report,
        metrics=metrics,
        findings=report.findings,
        summary=[(describe(name), cell(main[name])) for name in _SUMMARY if name in main],
        splits=sorted({key.split("/")[0] for key in report.metrics}),
        pictures=[(name, _ALT.get(name.removesuffix(".png"), name)) for name in pictures],
    )


def without_gaps(text: str) -> str:
    """Returns Markdown with one blank line wherever a template left several."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def render(template: str, **context: Any) -> str:
    """Fills a template; an undefined name in it raises an error."""
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("aiderm_trainer.reporting"),
        autoescape=select_autoescape(("html.j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": cell,
        "percent": percent,
        "describe": describe,
        "number": number,
        "interval": _interval,
        "bar": lambda text: str(text).replace("|", "\\|"),
        "p_value": lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}",
        "used": used_settings,
        "words": lambda text: str(text).replace("_", " "),
    }
    environment.globals |= {
        "tables": tables,
        "ece_verdict": ece_verdict,
        "disclaimer": DISCLAIMER,
        "stress_meaning": STRESS,
        "min_cases": MIN_CASES,
    }
    return environment


def _interval(metric: Metric) -> str:
    """A share with its interval, in per cent."""
    if metric.ci95 is None:
        return percent(metric.value)
    return f"{percent(metric.value)} ({percent(metric.ci95[0])} to {percent(metric.ci95[1])})"

"""Titles and number formats of metrics, shared by card, page, study and terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from aiderm_core.bundle.manifest import Metric

# Settings that have no effect while another one is off.
_GOES_WITH: Final = {"teaching": "teachers", "hidden_offset": "domain_offset"}
# In the order of the tables.
OVERALL: Final = (
    "roc_auc",
    "pr_auc",
    "sensitivity",
    "sensitivity_melanoma",
    "specificity",
    "precision",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "mcc",
    "melanoma_auc",
    "melanoma_pr_auc",
    "multiclass_balanced_accuracy",
    "multiclass_macro_f1",
    "multiclass_balanced_accuracy_even",
    "multiclass_macro_f1_even",
)
CALIBRATION: Final = ("prevalence", "brier", "ece", "ece_bound", "calibration_slope", "calibration_intercept")
DECISIONS: Final = (
    "share_low_suspicion",
    "share_suspicious",
    "share_uncertain",
    "share_rejected",
    "sensitivity_answered",
    "specificity_answered",
    "malignant_low_suspicion",
)
_NAMES: Final = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC (average precision)",
    "sensitivity": "Sensitivity, all malignant",
    "sensitivity_melanoma": "Sensitivity, melanoma alone",
    "specificity": "Specificity",
    "precision": "Precision, at this set's prevalence",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "melanoma_auc": "ROC AUC, melanoma against the rest",
    "melanoma_pr_auc": "PR AUC, melanoma against the rest",
    "multiclass_balanced_accuracy": "Balanced accuracy over classes",
    "multiclass_macro_f1": "Macro F1 over classes",
    "multiclass_balanced_accuracy_even": "Balanced accuracy over classes, most likely class at even prevalence",
    "multiclass_macro_f1_even": "Macro F1 over classes, most likely class at even prevalence",
    "prevalence": "Share of malignant images",
    "brier": "Brier score",
    "ece": "Expected calibration error, equal-mass bins (resampling inflates it)",
    "ece_bound": "What perfect probabilities stay below in 95% of draws",
    "calibration_slope": "Calibration slope (ideal 1; below it, overconfident)",
    "calibration_intercept": "Calibration intercept (ideal 0)",
    "share_low_suspicion": "Answered: low suspicion",
    "share_suspicious": "Answered: suspicious",
    "share_uncertain": "Uncertain",
    "share_rejected": "Rejected",
    "sensitivity_answered": "Sensitivity among the answered",
    "specificity_answered": "Specificity among the answered",
    "malignant_low_suspicion": "Malignant images told low suspicion",
    "auc_loss": "AUC lost",
    "flipped": "Flipped",
    "flipped_answers": "Flipped answers",
    "decision_changed": "Decision changed",
    "newly_rejected": "Newly rejected",
    "area_inside": "Outline's share of the area",
    "energy_inside": "Heat energy inside the outline",
    "energy_inside_malignant": "Heat energy inside, malignant alone",
    "peak_inside": "Heat peak inside the outline",
    "peak_inside_malignant": "Heat peak inside, malignant alone",
    "painted_roc_auc": "ROC AUC, lesion painted over",
    "painted_suspicious": "Painted images at or above the threshold",
    "mean_auc_inside": "Mean over the domains of the ROC AUC on biopsied lesions",
    "mean_auc_inside_all": "The same, with the domains that do not say what was biopsied",
    "side_depends": "Side of the threshold depends on the orientation",
    "decision_depends": "Decision depends on the orientation",
    "both_answers": "Low suspicion and suspicious for one lesion",
    "spread": "Highest less lowest malignancy, mean",
}
_LEVELLED: Final = {
    r"(melanoma_)?sensitivity_at_specificity_(.+)": "Sensitivity at specificity {}",
    r"(melanoma_)?specificity_at_sensitivity_(.+)": "Specificity at sensitivity {}",
    r"()ppv_at_prevalence_(.+)": "Positive predictive value at prevalence {}",
    r"()npv_at_prevalence_(.+)": "Negative predictive value at prevalence {}",
}


def describe(metric: str) -> str:
    """A metric's name in words."""
    for pattern, text in _LEVELLED.items():
        if match := re.fullmatch(pattern, metric):
            return text.format(match[2]) + (", melanoma against the rest" if match[1] else "")
    return _NAMES.get(metric, metric.replace("_", " "))


def is_levelled(metric: str) -> bool:
    """Whether the metric belongs to an operating point or a prevalence."""
    return any(re.fullmatch(pattern, metric) for pattern in _LEVELLED)


def number(value: float) -> str:
    """Formats a number with three decimals, or with none if it is whole and has two or more digits."""
    return f"{value:.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.3f}"


def percent(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.3g}%"


def cell(metric: Metric | None) -> str:
    """A value with its interval, or "-"."""
    if metric is None:
        return "-"
    if metric.ci95 is None:
        return number(metric.value)
    return f"{metric.value:.3f} ({metric.ci95[0]:.3f} to {metric.ci95[1]:.3f})"


def ece_verdict(metrics: Mapping[str, Metric]) -> str:
    """States whether the calibration error exceeds what chance alone would give perfect probabilities."""
    if "ece" not in metrics or "ece_bound" not in metrics:
        return "-"
    return "above it" if metrics["ece"].value > metrics["ece_bound"].value else "not above it"


def cohort_keys(metrics: Mapping[str, object], split: str) -> list[str]:
    """The split and its sources, without the keys that findings add."""
    keys = [split, *sorted(key for key in metrics if key.startswith(f"{split}/source="))]
    return [key for key in keys if key in metrics]


def cohort_title(key: str) -> str:
    """A column's heading for a key of ``cohort_keys``."""
    return key.split("source=")[-1] if "/" in key else "all sources"


def used_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a training run used, without those that switch something off and those that depend on them.

    Args:
        config: by name. None, 0 and an empty list or string switch something off; a seed of 0 and False are kept.
    """
    used = {name: value for name, value in config.items() if name == "seed" or isinstance(value, bool) or value}
    return {name: value for name, value in used.items() if _GOES_WITH.get(name, name) in used}

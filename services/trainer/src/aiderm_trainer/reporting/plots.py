"""Draws the report's plots as PNG files from the data in report.json alone, without pyplot's global state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aiderm_trainer.evaluation.report_schema import EvaluationReport, PrCurve, RocCurve, Segment

C = TypeVar("C")

# Okabe and Ito's palette, distinguishable with every kind of colour vision.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NOT_LEARNT = ("epoch", "stage", "seconds", "step", "learning_rate", "lr")  # columns of a history that are not metrics
_MAX_PANELS = 4


def write_plots(folder: Path, report: EvaluationReport) -> list[str]:
    """Draws the plots for which the report has data.

    Args:
        folder: where the PNG files go; it must exist.
        report: the report.

    Returns:
        Names of the files written: roc, pr, reliability, decision_curve, histogram, confusion, training, stress and
        subgroups, each with ``.png``.
    """
    main = report.segments[report.main]
    shown = {name: segment for name, segment in report.segments.items() if name.split("/")[0] == report.main}
    figures: dict[str, Figure | None] = {
        "roc": _roc(report, shown),
        "pr": _pr(report, shown),
        "reliability": _reliability(main),
        "decision_curve": _decision_curve(report, main),
        "histogram": _histogram(report, main),
        "confusion": _confusion(main),
        "training": _training(report),
        "stress": _stress(report),
        "subgroups": _subgroups(report),
    }
    written = []
    for name, figure in figures.items():
        if figure is None:
            continue
        FigureCanvasAgg(figure)
        # Without the Software entry, which names matplotlib's version, the same data always give the same bytes.
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
        written.append(f"{name}.png")
    return written


def _figure(panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.0 * panels, 4.4), layout="constrained")
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for axis in axes:
        axis.grid(visible=True, alpha=0.3)
    return figure, axes


def _label(report: EvaluationReport, name: str, metric: str) -> str:
    title = name.split("source=")[-1] if "/" in name else f"all of {name}"
    value = report.metrics[name].get(metric)
    if value is None:
        return title
    text = f"{title}: {value.value:.3f}"
    return text if value.ci95 is None else f"{text} ({value.ci95[0]:.3f}-{value.ci95[1]:.3f})"


def _curves(
    report: EvaluationReport, metric: str, curves: dict[str, C | None], draw: Callable[[Axes, C, str, str], object]
) -> tuple[Figure, Axes] | None:
    """Draws one figure with the existing curves of the segments, each labelled with its area; None if there are no curves.

    Args:
        report: the report.
        metric: name of the area.
        curves: by segment.
        draw: draws one curve, given its colour and label.
    """
    found = [(name, curve) for name, curve in curves.items() if curve is not None]
    if not found:
        return None
    figure, (axis,) = _figure()
    for i, (name, curve) in enumerate(found):
        draw(axis, curve, COLOURS[i % len(COLOURS)], _label(report, name, metric))
    return figure, axis


def _roc(report: EvaluationReport, shown: dict[str, Segment]) -> Figure | None:
    def draw(axis: Axes, roc: RocCurve, colour: str, label: str) -> None:
        axis.plot(roc.false_positive_rate, roc.true_positive_rate, color=colour, label=label)

    drawn = _curves(report, "roc_auc", {name: segment.roc for name, segment in shown.items()}, draw)
    if drawn is None:
        return None
    figure, axis = drawn
    axis.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    chosen = report.metrics[report.main]
    if "sensitivity" in chosen and "specificity" in chosen:
        axis.plot([1 - chosen["specificity"].value], [chosen["sensitivity"].value], "o", color=COLOURS[0], label="threshold")
    axis.set(xlabel="1 - specificity", ylabel="Sensitivity", title="ROC, area with 95% interval", xlim=(0, 1), ylim=(0, 1.01))
    axis.legend(loc="lower right", fontsize=8)
    return figure


def _pr(report: EvaluationReport, shown: dict[str, Segment]) -> Figure | None:
    def draw(axis: Axes, pr: PrCurve, colour: str, label: str) -> None:
        axis.step(pr.recall, pr.precision, where="pre", color=colour, label=label)
        axis.axhline(pr.base_rate, color=colour, linestyle=":", linewidth=0.8)

    drawn = _curves(report, "pr_auc", {name: segment.pr for name, segment in shown.items()}, draw)
    if drawn is None:
        return None
    figure, axis = drawn
    axis.set(xlabel="Sensitivity (recall)", ylabel="Precision", title="Precision and recall, average precision")
    axis.set(xlim=(0, 1), ylim=(0, 1.01))
    axis.legend(loc="lower left", fontsize=8)
    return figure


def _reliability(main: Segment) -> Figure:
    figure, (axis,) = _figure()
    axis.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    for each in main.reliability:
        axis.plot([each.mean_probability] * 2, each.ci95, color=COLOURS[1], linewidth=1)
    points = [each.mean_probability for each in main.reliability]
    axis.plot(points, [each.observed for each in main.reliability], "o-", color=COLOURS[1], markersize=4)
    axis.set(xlabel="Predicted probability of malignancy", ylabel="Observed share", title="Reliability, equal-mass bins")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    return figure


def _decision_curve(report: EvaluationReport, main: Segment) -> Figure:
    figure, (axis,) = _figure()
    curve = main.decision_curve
    axis.plot(curve.threshold, curve.model, color=COLOURS[1], label="model")
    if curve.low:
        axis.fill_between(curve.threshold, curve.low, curve.high, color=COLOURS[1], alpha=0.2, linewidth=0)
    axis.plot(curve.threshold, curve.treat_all, color=COLOURS[2], label="treat all")
    axis.axhline(0, color=COLOURS[0], linewidth=1, label="treat none")
    axis.axvline(report.threshold, color="0.6", linestyle=":", label="threshold")
    top = max([*curve.model, *curve.high, *curve.treat_all, 0.01])
    axis.set(xlabel="Threshold probability", ylabel="Net benefit", title="Decision curve", ylim=(-0.25 * top, 1.1 * top))
    axis.legend(fontsize=8)
    return figure


def _histogram(report: EvaluationReport, main: Segment) -> Figure:
    figure, (axis,) = _figure()
    for counts, colour, label in (
        (main.histogram.benign, COLOURS[1], "benign"),
        (main.histogram.malignant, COLOURS[2], "malignant"),
    ):
        axis.stairs(counts, main.histogram.edges, fill=True, alpha=0.5, color=colour, label=label)
    axis.axvspan(*report.uncertain, color="0.5", alpha=0.15, label="uncertain")
    axis.axvline(report.threshold, color=COLOURS[0], linestyle=":", label="threshold")
    axis.set(xlabel="Predicted probability of malignancy", ylabel="Images", title="Scores by label", xlim=(0, 1))
    axis.set_yscale("symlog", linthresh=10)
    axis.legend(fontsize=8)
    return figure


def _confusion(main: Segment) -> Figure | None:
    if main.confusion is None:
        return None
    labels, counts = main.confusion.labels, main.confusion.counts
    figure, (axis,) = _figure()
    shares = [[value / max(sum(row), 1) for value in row] for row in counts]
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts):
        for j, value in enumerate(row):
            colour = "white" if shares[i][j] > 0.5 else "black"
            axis.text(j, i, str(value), ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_yticks(range(len(labels)), labels)
    axis.grid(visible=False)
    axis.set(xlabel="Most probable class", ylabel="True class", title="Images with a known class")
    return figure


def _training(report: EvaluationReport) -> Figure | None:
    columns: dict[str, Sequence[float]] = {}
    for key in dict.fromkeys(key for epoch in report.history for key in epoch):
        values = [epoch.get(key) for epoch in report.history]
        if key not in NOT_LEARNT:
            columns[key] = [float(value) if isinstance(value, int | float) else float("nan") for value in values]
    bases = list(dict.fromkeys(key.removeprefix("val_") for key in columns))[:_MAX_PANELS]
    if not bases:
        return None
    figure, axes = _figure(len(bases))
    epochs = range(1, len(report.history) + 1)
    for axis, base in zip(axes, bases, strict=True):
        for key, colour, label in ((base, COLOURS[1], "training"), (f"val_{base}", COLOURS[2], "validation")):
            if key in columns:
                axis.plot(epochs, columns[key], color=colour, marker=".", label=label)
        axis.set(xlabel="Epoch", title=base)
        axis.legend(fontsize=8)
    return figure


def _stress(report: EvaluationReport) -> Figure | None:
    """Plots AUC lost and the share of flipped images by artefact, with intervals."""
    stress = report.findings.stress
    if stress is None:
        return None
    names = list(stress.artefacts)
    figure, axes = _figure(2)
    for axis, metric, label in zip(axes, ("auc_loss", "flipped"), ("ROC AUC lost", "Share of images flipped"), strict=True):
        for at, name in enumerate(names):
            found = stress.artefacts[name].get(metric)
            if found is None:
                continue
            axis.barh(at, found.value, color=COLOURS[6], height=0.7)
            if found.ci95 is not None:
                axis.plot(found.ci95, [at, at], color=COLOURS[0], linewidth=1.5)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.invert_yaxis()
        axis.axvline(0, color=COLOURS[0], linewidth=0.8)
        axis.set(xlabel=label, title=f"Artefacts on {stress.count} images")
    return figure


def _subgroups(report: EvaluationReport) -> Figure | None:
    """Forest plot of the subgroups' AUC; significantly worse ones in another colour and shape."""
    shown = [each for each in report.findings.subgroups if "roc_auc" in each.metrics and each.metrics["roc_auc"].ci95 is not None]
    if not shown:
        return None
    figure = Figure(figsize=(7.0, 1.2 + 0.26 * len(shown)), layout="constrained")
    axis = figure.add_subplot(1, 1, 1)
    axis.grid(visible=True, alpha=0.3)
    for at, each in enumerate(shown):
        found, worse = each.metrics["roc_auc"], "roc_auc" in each.worse
        colour = COLOURS[2] if worse else COLOURS[1]
        if found.ci95 is not None:
            axis.plot(found.ci95, [at, at], color=colour, linewidth=1.5)
        axis.plot([found.value], [at], "D" if worse else "o", color=colour, markersize=5)
    labels = [f"{each.family}: {each.name} ({each.malignant} of {each.count})" for each in shown]
    axis.set_yticks(range(len(shown)), labels, fontsize=8)
    axis.invert_yaxis()
    overall = report.metrics[report.main].get("roc_auc")
    if overall is not None:
        axis.axvline(overall.value, color="0.5", linestyle=":")
    axis.set(xlabel="ROC AUC, 95% interval", title="Subgroups (malignant of all); diamond: significantly worse")
    return figure

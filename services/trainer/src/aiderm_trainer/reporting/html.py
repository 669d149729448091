"""report.html: the report as one page without scripts, that opens from disk and prints; the plots are the PNG files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from aiderm_core import DISCLAIMER
from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation.outline_agreement import DEFINITIONS as OUTLINES
from aiderm_trainer.evaluation.report_schema import EvaluationReport
from aiderm_trainer.evaluation.stress import DEFINITIONS as STRESS
from aiderm_trainer.evaluation.subgroups import TESTED
from aiderm_trainer.reporting.card_findings import NOT_MEASURED, flag
from aiderm_trainer.reporting.formatting import (
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

SHOWN_ERRORS = 10
_SUMMARY = ("roc_auc", "melanoma_auc", "multiclass_balanced_accuracy", "sensitivity", "specificity", "ece")
_ALT = {
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
_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem}
h1,h2{line-height:1.2} h2{margin-top:2.5rem;border-bottom:1px solid #8888}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;margin:.5rem 0}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{padding:.2rem .6rem;text-align:left;border-bottom:1px solid #8884;vertical-align:top}
td{white-space:nowrap} td.text{white-space:normal} .scroll{overflow-x:auto}
.worse{background:#d55e0033;font-weight:600} .note{border-left:4px solid #0072b2;padding:.3rem 1rem}
.plots{display:flex;flex-wrap:wrap;gap:1rem} figure{margin:0;flex:1 1 26rem;max-width:100%} img{max-width:100%;background:#fff}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.5rem}
dl div{border:1px solid #8886;border-radius:.4rem;padding:.5rem .8rem} dt{font-size:.85rem} dd{margin:0;font-weight:600}
@media print{body{font-size:10pt;max-width:none} .scroll{overflow:visible} table{font-size:7pt}
 td{white-space:normal} figure,tr{break-inside:avoid} h2{break-after:avoid}}
"""


def render_page(report: EvaluationReport, pictures: Sequence[str]) -> str:
    """The page.

    Args:
        report: everything that it says.
        pictures: names of the plots beside it.

    Returns:
        HTML; it loads nothing from anywhere but those pictures.
    """
    title = f"{report.name} {report.version}: evaluation on the {report.main} images"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(DISCLAIMER)}</p>',
        _summary(report),
        _results(report),
        _subgroups(report),
        _stress(report),
        _outlines(report),
        _others(report),
        _plots(pictures),
        _errors(report),
        f"<h2>How the intervals were made</h2><p>Percentile bootstrap, {report.bootstrap.replicates} resamples of groups (the "
        f"pictures of one lesion and its near-duplicates together), seed {report.bootstrap.seed}. Proportions of exactly 0 or 1 "
        "have Clopper and Pearson's interval.</p>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] = ()) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = []
    for i, (first, *rest) in enumerate(rows):
        cells = "".join(f"<td{_wraps(text)}>{escape(text)}</td>" for text in rest)
        mark = ' class="worse"' if i < len(marked) and marked[i] else ""
        body.append(f'<tr{mark}><th scope="row">{escape(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _wraps(text: str) -> str:
    return ' class="text"' if len(text) > 30 else ""


def _summary(report: EvaluationReport) -> str:
    main = report.metrics[report.main]
    boxes = [(describe(name), cell(main[name])) for name in _SUMMARY if name in main]
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in boxes)
    worse = [each for each in report.findings.subgroups if each.worse]
    said = "; ".join(f"{each.family} {each.name} ({', '.join(describe(name) for name in each.worse)})" for each in worse)
    flagged = f"Significantly worse subgroups: {said}." if worse else "No subgroup is significantly worse than the rest."
    if not report.findings.subgroups:
        flagged = "Subgroups were not looked into."
    calibrated = ece_verdict(main)
    return (
        f"<h2>Summary</h2><dl>{facts}</dl><p>Threshold {report.threshold:.4f}, uncertain from {report.uncertain[0]:.4f} to "
        f"{report.uncertain[1]:.4f}. The calibration error is {escape(calibrated)}, where it is the bound that perfect "
        f"probabilities stay below in 95% of draws. {escape(flagged)}</p>"
    )


def _results(report: EvaluationReport) -> str:
    out = []
    for split in sorted({key.split("/")[0] for key in report.metrics}):
        keys = cohort_keys(report.metrics, split)
        header = ["", *(cohort_title(key) for key in keys)]
        everything = list(dict.fromkeys(name for key in keys for name in report.metrics[key]))
        blocks = {
            "Images": [name for name in everything if name == "n" or name.startswith("n_")],
            "Discrimination, at the threshold where one is needed": list(OVERALL),
            "Decisions as served": list(DECISIONS),
            "Calibration": list(CALIBRATION),
            "Operating points, and predictive values at stated prevalences": [name for name in everything if is_levelled(name)],
        }
        out.append(f"<h2>Results on the {escape(split)} images</h2>")
        for caption, names in blocks.items():
            rows = [
                [
                    "images" if name == "n" else describe(name.removeprefix("n_")),
                    *(cell(report.metrics[key].get(name)) for key in keys),
                ]
                for name in names
                if any(name in report.metrics[key] for key in keys)
            ]
            if caption == "Calibration":
                rows.append(["The error against that bound", *(ece_verdict(report.metrics[key]) for key in keys)])
            if rows:
                out.append(_table(caption, header, rows))
    return "\n".join(out)


def _subgroups(report: EvaluationReport) -> str:
    found = report.findings.subgroups
    if not found:
        return f"<h2>Subgroups</h2><p>{NOT_MEASURED}</p>"
    header = ["family", "subgroup", "images", "malignant", "melanoma"]
    header += [text for name in TESTED for text in (describe(name), "difference to the rest, corrected p")]
    rows = []
    for each in found:
        values = [each.family, each.name, str(each.count), str(each.malignant), str(each.melanoma)]
        for name in TESTED:
            compared = each.compared.get(name)
            values += [cell(each.metrics.get(name)), f"{cell(compared.difference)}, p {compared.p_holm:.3f}" if compared else "-"]
        rows.append([*values, flag(each)])
    return "<h2>Subgroups</h2>" + _table(
        "Two-sided bootstrap against the rest of the family, corrected by Holm",
        [*header, "in words"],
        rows,
        [bool(each.worse) for each in found],
    )


def _metric_table(caption: str, corner: str, of: dict[str, dict[str, Metric]]) -> str:
    names = list(dict.fromkeys(name for values in of.values() for name in values))
    rows = [[key.replace("_", " "), *(cell(values.get(name)) for name in names)] for key, values in of.items()]
    return _table(caption, [corner, *(describe(name) for name in names)], rows)


def _stress(report: EvaluationReport) -> str:
    stress = report.findings.stress
    if stress is None:
        return f"<h2>Artefacts</h2><p>{NOT_MEASURED}</p>"
    meaning = "".join(f"<li>{escape(describe(name))}: {escape(text)}.</li>" for name, text in STRESS.items())
    caption = f"{stress.count} {stress.split} images, each with each artefact"
    return f"<h2>Artefacts</h2>{_metric_table(caption, 'artefact', stress.artefacts)}<ul>{meaning}</ul>"


def _outlines(report: EvaluationReport) -> str:
    found, title = report.findings.outlines, "<h2>Lesion outlines and the painted-over lesion</h2>"
    if found is None:
        return f"{title}<p>{NOT_MEASURED}</p>"
    rows = [[describe(name), cell(metric), OUTLINES[name]] for name, metric in found.metrics.items()]
    caption = (
        f"{found.count} images with an outline, {found.blank} blank heatmaps, {found.unpaintable} that cannot be painted over"
    )
    return title + _table(caption, ["measure", "value", "meaning"], rows)


def _others(report: EvaluationReport) -> str:
    out, findings = [], report.findings
    if findings.left_out:
        out.append(
            "<h2>Sources left out</h2>" + _metric_table("Trained on the others, tested on it", "source", findings.left_out)
        )
    title = "<h2>Ordinary photographs of skin</h2>"
    if (close := findings.close_ups) is not None:
        rows = [
            ["wrongly accepted", cell(close.accepted)],
            ["lesions rejected", cell(close.lesions_rejected)],
            ["AUROC of novelty against lesions", cell(close.auroc)],
        ]
        out.append(title + _table(f"{close.count} photographs, {close.undecodable} undecodable", ["measure", "value"], rows))
    else:
        out.append(f"{title}<p>{NOT_MEASURED}</p>")
    if findings.held:
        rows = [[e.kind, e.side, str(e.images), str(e.malignant), str(e.melanoma), str(e.known)] for e in findings.held]
        header = ["kind", "side", "images", "malignant", "melanoma", "of images of which it is known"]
        out.append("<h2>What the data hold</h2>" + _table("As far as it could be counted", header, rows))
    return "\n".join(out)


def _plots(pictures: Sequence[str]) -> str:
    described = {name: _ALT.get(name.removesuffix(".png"), name) for name in pictures}
    figures = "".join(
        f'<figure><img src="{escape(name, quote=True)}" alt="{escape(text, quote=True)}"></figure>'
        for name, text in described.items()
    )
    return f'<h2>Curves</h2><div class="plots">{figures}</div>'


def _errors(report: EvaluationReport) -> str:
    out = ["<h2>Worst errors</h2><p>By checksum of the file; errors.csv holds more. No picture leaves the data folder.</p>"]
    for kind, caption in (("missed", "Malignant, with the lowest malignancy"), ("false_alarm", "Benign, with the highest")):
        shown = [each for each in report.errors if each.error == kind][:SHOWN_ERRORS]
        rows = [[e.sha256[:16], e.source, e.dx or "unknown", f"{e.malignancy:.3f}", e.decision.replace("_", " ")] for e in shown]
        if rows:
            out.append(_table(caption, ["sha256", "source", "diagnosis", "malignancy", "decision"], rows))
    return "\n".join(out)

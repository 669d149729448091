"""The card's sections on short cuts, subgroups and what the data scarcely hold; what was not measured is said not to be."""

from __future__ import annotations

from collections.abc import Sequence

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation.findings import Findings
from aiderm_trainer.evaluation.outline_agreement import DEFINITIONS as OUTLINES
from aiderm_trainer.evaluation.stress import DEFINITIONS as STRESS
from aiderm_trainer.evaluation.subgroups import MIN_CASES, TESTED, Subgroup
from aiderm_trainer.reporting.formatting import bullets, cell, describe, percent, table

NOT_MEASURED = "Not measured for this bundle."


def findings_sections(findings: Findings) -> list[str]:
    """Markdown sections, each with its heading."""
    return [
        f"## Subgroups\n\n{_subgroups(findings.subgroups)}",
        f"## What the data scarcely hold\n\n{_held(findings)}",
        f"## Short cuts\n\n{_short_cuts(findings)}",
        f"## Ordinary photographs of skin\n\n{_close_ups(findings)}",
    ]


def flag(each: Subgroup) -> str:
    """What is said of a subgroup: where it is significantly worse, or what too few cases tell nothing of."""
    said = []
    if each.worse:
        said.append("worse: " + ", ".join(describe(name) for name in each.worse))
    if each.too_few:
        said.append("too few to tell: " + ", ".join(describe(name) for name in each.too_few))
    return "; ".join(said) or "no difference shown"


def _subgroups(found: Sequence[Subgroup]) -> str:
    if not found:
        return NOT_MEASURED
    worse = [f"{each.family} {each.name}: {', '.join(describe(name) for name in each.worse)}" for each in found if each.worse]
    rows = [
        [
            each.family,
            each.name,
            str(each.count),
            str(each.malignant),
            *(cell(each.metrics.get(name)) for name in TESTED),
            flag(each),
        ]
        for each in found
    ]
    text = (
        "Each subgroup is compared with all others of its family (two-sided bootstrap of the difference, resampled by group, "
        "corrected by Holm for the subgroups of the family). Where a label that a metric needs has fewer than "
        f"{MIN_CASES} groups on either side, nothing is claimed. Skin tone is the individual typology angle of the skin around "
        "the lesion (Chardon 1991), measured in the picture: a dermatoscope's light is not calibrated, so it is rough.\n\n"
    )
    text += "**Significantly worse:**\n\n" + bullets(worse) if worse else "No subgroup is significantly worse in any of them."
    header = ["family", "subgroup", "images", "malignant", *(describe(name) for name in TESTED), "against the rest"]
    return text + "\n\n" + table(header, rows)


def _held(findings: Findings) -> str:
    items = [
        "Dark skin is scarcely held by the public dermoscopic collections; nothing is known of how the model does there.",
        "Children, and lesions of palms, soles, nails and mucosa, are scarcely held either.",
        "Amelanotic and nodular melanomas are few, and are the ones that are easily missed. The sources' tables do not name "
        "these types, so they cannot even be counted.",
    ]
    text = bullets(items)
    if findings.held:
        rows = [[e.side, e.kind, str(e.images), str(e.malignant), str(e.melanoma), str(e.known)] for e in findings.held]
        header = ["side", "kind", "images", "malignant", "melanoma", "of images of which it is known"]
        text += "\n\nWhat could be counted:\n\n" + table(header, rows)
    return text


def _short_cuts(findings: Findings) -> str:
    parts = []
    if (stress := findings.stress) is not None:
        names = list(dict.fromkeys(name for of in stress.artefacts.values() for name in of))
        rows = [
            [artefact.replace("_", " "), *(cell(of.get(name)) for name in names)] for artefact, of in stress.artefacts.items()
        ]
        meaning = bullets([f"{describe(name)}: {STRESS[name]}." for name in names])
        parts.append(
            f"**Artefacts** drawn on {stress.count} {stress.split} images, by other code than the training's augmentation:\n\n"
            + table(["artefact", *(describe(name) for name in names)], rows)
            + f"\n\n{meaning}"
        )
    else:
        parts.append(f"**Artefacts** (borders, rulers, ink, hair, blur and the like). {NOT_MEASURED}")
    if (outlines := findings.outlines) is not None:
        rows = [[describe(name), cell(metric), OUTLINES[name]] for name, metric in outlines.metrics.items()]
        parts.append(
            f"**Heatmap against lesion outlines, and the lesion painted over** (Bissoto et al. 2019, 2020), on {outlines.count} "
            f"{outlines.split} images with an outline. {outlines.blank} heatmaps were blank, {outlines.unpaintable} pictures "
            "had too little skin to paint with.\n\n" + table(["measure", "value", "meaning"], rows)
        )
    else:
        parts.append(f"**Heatmap against lesion outlines, and the lesion painted over.** {NOT_MEASURED}")
    if findings.left_out:
        names = list(dict.fromkeys(name for of in findings.left_out.values() for name in of))
        rows = [[source, *(cell(of.get(name)) for name in names)] for source, of in findings.left_out.items()]
        parts.append(
            "**Trained on all sources but one, tested on that one** (other networks of this kind, to show what an unseen "
            "camera costs):\n\n" + table(["source left out", *(describe(name) for name in names)], rows)
        )
    else:
        parts.append(f"**Trained on all sources but one, tested on that one.** {NOT_MEASURED}")
    return "\n\n".join(parts)


def _close_ups(findings: Findings) -> str:
    found = findings.close_ups
    if found is None:
        return (
            f"{NOT_MEASURED} It is unknown what share of photographs taken without a dermatoscope is wrongly accepted: no such "
            "labelled pictures stood beside the training data, and drawn ones would say nothing of real ones. Take it "
            "that many are."
        )
    return (
        f"Of {found.count} photographs of skin taken without a dermatoscope, {percent(found.accepted.value)} "
        f"({_interval(found.accepted)}) were wrongly accepted; of real lesions, {percent(found.lesions_rejected.value)} were "
        f"rejected by the same rules. AUROC of novelty between the two: {cell(found.auroc)}."
    )


def _interval(metric: Metric) -> str:
    if metric.ci95 is None:
        return "no interval"
    return f"{percent(metric.ci95[0])} to {percent(metric.ci95[1])}"

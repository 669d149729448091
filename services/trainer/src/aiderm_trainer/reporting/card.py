"""MODEL_CARD.md (Mitchell et al. 2019), written wholly from manifest and report: every number in it stands in one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aiderm_core import DISCLAIMER
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_trainer.evaluation.findings import NO_FINDINGS, Findings
from aiderm_trainer.reporting.card_findings import findings_sections
from aiderm_trainer.reporting.formatting import (
    CALIBRATION,
    DECISIONS,
    OVERALL,
    bullets,
    cell,
    cohort_keys,
    cohort_title,
    describe,
    ece_verdict,
    is_levelled,
    percent,
    table,
)


def render_card(manifest: Manifest, extras: Mapping[str, str] | None = None, findings: Findings = NO_FINDINGS) -> str:
    """The model card as Markdown.

    Args:
        manifest: complete, with its metrics.
        extras: further sections, heading -> Markdown text, put before the disclaimer; their author vouches for them.
        findings: of the report; what was not looked into is said not to be measured.
    """
    sections = [
        f"# Model card: {manifest.name} {manifest.version}\n\n> {DISCLAIMER}",
        _details(manifest),
        _use(manifest),
        _factors(manifest),
        _how_measured(manifest),
        _data(manifest),
        *(_results(manifest, split) for split in sorted({key.split("/")[0] for key in manifest.metrics})),
        *findings_sections(findings),
        _calibration(manifest),
        _decision(manifest),
        _novelty(manifest),
        _limitations(manifest),
        *(f"## {heading}\n\n{text.strip()}" for heading, text in (extras or {}).items()),
        f"## Disclaimer\n\n{DISCLAIMER} A trained person must examine the lesion. Anything that changes, bleeds or worries the "
        "patient belongs before a physician, whatever this model says.",
    ]
    return "\n\n".join(sections) + "\n"


def _details(manifest: Manifest) -> str:
    training = manifest.training
    facts = [
        f"Architecture: {manifest.architecture}.",
        f"Made: {manifest.created_at:%Y-%m-%d}, code revision {training.revision}, seed {training.seed}, "
        f"{training.seconds / 60:.0f} minutes of training.",
        f"Input: an RGB picture's largest centred square, scaled to {manifest.input.size} x {manifest.input.size} pixels.",
        "Output: a probability for each class, the summed probability of the malignant ones, a heatmap and a novelty score.",
        f"Evaluated forms: {', '.join(f'{form.runtime} in {form.precision}' for form in manifest.forms)}.",
    ]
    labels = table(
        ["class", "meaning", "counted as"],
        [[label.id, label.name, "malignant" if label.malignant else "benign"] for label in manifest.labels],
    )
    mapped = ", ".join(f"{old} counts as {new}" for old, new in manifest.class_map.items())
    settings = table(["setting", "value"], [[key, str(value)] for key, value in sorted(training.config.items())])
    parts = [bullets(facts), labels, *([f"Other diagnoses: {mapped}."] if mapped else []), "Training settings:", settings]
    return "## Model details\n\n" + "\n\n".join(parts)


def _use(manifest: Manifest) -> str:
    out = [
        "Diagnosis, or any decision about a patient without a clinician who examines the lesion.",
        "Reassurance: an answer below the threshold does not mean benign.",
        "Pictures taken without a dermatoscope, of anything but a single skin lesion, or of several lesions at once.",
        "Screening of people by themselves, triage without supervision, insurance, employment or any other selection of people.",
    ]
    return f"## Intended use\n\n{manifest.intended_use}\n\n## Out of scope\n\n{bullets(out)}"


def _factors(manifest: Manifest) -> str:
    return (
        "## Factors\n\n"
        "What the answer may depend on besides the lesion: camera, dermatoscope and its light, immersion fluid, cropping, hair, "
        "ink, rulers and dark borders, the body site, age and skin type of the patient. In public collections benign and "
        "malignant pictures often come from different cameras, so that a model can score well by recognising the camera. For "
        "that reason every result is also given inside each source, where all pictures share an origin "
        f"(sources: {', '.join(manifest.data.sources)})."
    )


def _how_measured(manifest: Manifest) -> str:
    return (
        "## Metrics\n\n"
        "Everything is measured on the exported graph, through the same decoding and the same runtime that serve it. Malignant "
        f"means a malignancy at or above the threshold of {manifest.decision.threshold:.4f}. In brackets stand 95% bootstrap "
        "intervals; they resample groups (the pictures of one lesion and its near-duplicates together). A proportion of "
        "exactly 0 or 1 has Clopper and Pearson's interval instead. Rows whose exact class "
        "is unknown count in the benign/malignant metrics only; melanoma against the rest leaves out malignant rows without a "
        "diagnosis. An interval holds for this test split: pictures from other cameras, clinics and people may do worse."
    )


def _data(manifest: Manifest) -> str:
    data = manifest.data
    text = (
        f"## Data\n\nLicence of the training images: {data.licence.rstrip('.')}. The weights were learnt from these images: "
        "treat them as bound by the same terms"
    )
    if re.search(r"\bNC\b|non-?commercial", data.licence, re.IGNORECASE):
        text += ", which exclude commercial use"
    counts = table(["set", "count"], [[name, str(count)] for name, count in data.counts.items()])
    text += ". No picture is part of this bundle; its golden inputs are synthetic."
    return f"{text}\n\n{counts}\n\nSplit table: sha256 `{data.fingerprint}`."


def _results(manifest: Manifest, split: str) -> str:
    keys = cohort_keys(manifest.metrics, split)
    titles = [cohort_title(key) for key in keys]

    def block(names: Sequence[str]) -> str:
        present = [name for name in names if any(name in manifest.metrics[key] for key in keys)]
        return table(
            ["metric", *titles], [[describe(name), *(cell(manifest.metrics[key].get(name)) for key in keys)] for name in present]
        )

    everything = list(dict.fromkeys(name for key in keys for name in manifest.metrics[key]))
    levelled = [name for name in everything if is_levelled(name)]
    counts = [name for name in everything if name == "n" or name.startswith("n_")]
    sizes = table(
        ["count", *titles],
        [
            ["images" if name == "n" else name[2:].replace("_", " "), *(cell(manifest.metrics[key].get(name)) for key in keys)]
            for name in counts
        ],
    )
    parts = [
        f"## Results on the {split} split",
        sizes,
        block(OVERALL),
        "Decisions as served, with the uncertain band and rejections:",
        block(DECISIONS),
        "Calibration on this split:",
        block(CALIBRATION),
        table(["measure", *titles], [["The error against that bound", *(ece_verdict(manifest.metrics[key]) for key in keys)]]),
        "Other operating points, and predictive values at prevalences that a practice may have:",
        block(levelled),
    ]
    return "\n\n".join(parts)


def _calibration(manifest: Manifest) -> str:
    calibration = manifest.calibration
    return (
        f"## Calibration\n\nMethod: {calibration.method}. Temperature {calibration.temperature:.3f}, malignant shift "
        f"{calibration.malignant_shift:.3f} in log-odds; both are inside the graph. On the calibration split the expected "
        f"calibration error went from {calibration.ece_before:.3f} to {calibration.ece_after:.3f}.\n\n"
        f"**The probability assumes that {percent(calibration.prevalence)} of the pictures show a malignant lesion**, as in the "
        "calibration split. Where malignant lesions are rarer, as in general practice, the true probability is lower."
    )


def _decision(manifest: Manifest) -> str:
    rule = manifest.decision
    coverage = manifest.calibration.coverage
    text = f"## Threshold and uncertain band\n\n{_rule(rule)}"
    if coverage:
        rows = [[key.replace("_", " ").replace("/source=", ", "), f"{value:.3f}"] for key, value in coverage.items()]
        text += "\n\nOn the calibration split, on which they were chosen:\n\n" + table(["quantity", "value"], rows)
    if manifest.thorough is not None:
        gain = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in manifest.thorough.gain.items())
        text += f"\n\nThorough mode (several views of the picture) has a rule of its own. {_rule(manifest.thorough.decision)} "
        text += f"Gain: {gain}."
    return text


def _rule(rule: DecisionRule) -> str:
    low, high = rule.uncertain
    target, missed = percent(rule.target_sensitivity), percent(1 - rule.target_sensitivity)
    return (
        f"The threshold is {rule.threshold:.4f}. It was chosen for a sensitivity of {target} for malignant lesions and for "
        "melanoma alone, in each source with enough cases on the calibration split; the sensitivities that it reaches on "
        f"pictures held out stand in the results above. From {low:.4f} to {high:.4f} no side is taken (conformal band). Below "
        f"the threshold is not benign: the target itself lets {missed} of malignant lesions lie there."
    )


def _novelty(manifest: Manifest) -> str:
    novelty = manifest.novelty
    method = f" Method: {novelty.method.rstrip('.')}." if novelty.method else ""
    text = (
        f"## Pictures that are not assessed\n\nA picture whose novelty exceeds {novelty.limit:.4g} is rejected.{method} On the "
        f"calibration split {percent(novelty.false_rejection_rate)} of real lesions lay beyond it. It does not notice "
        "everything that is no dermoscopic picture."
    )
    if novelty.evaluation:
        text += "\n\n" + table(
            ["quantity", "value"], [[key.replace("_", " "), f"{value:.3f}"] for key, value in novelty.evaluation.items()]
        )
    if manifest.quality:
        bounds = [
            [
                metric.replace("_", " "),
                f"too {limit.worse}",
                *("-" if bound is None else f"{bound:.4g}" for bound in (limit.warn, limit.doubt, limit.reject)),
            ]
            for metric, limit in manifest.quality.items()
        ]
        text += (
            "\n\nLimits of picture quality. Beyond `uncertain` a low suspicion is withheld, beyond `warning` alone it is not:"
            "\n\n" + table(["measure", "trouble when", "warning", "uncertain", "rejection"], bounds)
        )
    return text


def _limitations(manifest: Manifest) -> str:
    general = [
        "Intervals hold for this test split; pictures from other cameras, clinics and people may do worse.",
        "In public collections labels come from histopathology, follow-up, consensus or microscopy, and are not free of errors.",
        "The heatmap shows what moved this model's score. It is no outline of a lesion and no explanation in medical terms.",
    ]
    ethics = [
        "A missed melanoma can cost a life; a false alarm costs a scar, worry and money. The threshold trades one for the other.",
        "People may trust a number more than it deserves; so probability, threshold and assumed prevalence stand side by side.",
        "Unequal data mean unequal performance; use on people who are scarcely held in the data may widen existing gaps.",
        "Pictures of skin are health data. Serving keeps none of them.",
    ]
    return f"## Limitations\n\n{bullets([*manifest.limitations, *general])}\n\n## Ethical considerations\n\n{bullets(ethics)}"

import re

import pytest

from aiderm_core import DISCLAIMER
from aiderm_core.bundle.manifest import Manifest, Metric, OutlineInfo
from aiderm_trainer.evaluation.domain_metrics import CameraAuc, DomainFigures, DomainReport
from aiderm_trainer.evaluation.evaluate import evaluate_scores
from aiderm_trainer.evaluation.findings import Findings, Held
from aiderm_trainer.evaluation.learning_curve import CurvePoint
from aiderm_trainer.evaluation.orientation import OrientationReport
from aiderm_trainer.evaluation.out_of_distribution import OutOfDistribution
from aiderm_trainer.evaluation.outline_agreement import OutlineReport
from aiderm_trainer.evaluation.stress import Stress
from aiderm_trainer.evaluation.subgroups import GroupComparison, Subgroup
from aiderm_trainer.reporting.render import render_card
from aiderm_trainer.reporting.tables import PUBLISHED
from aiderm_trainer.reporting.wording import describe


@pytest.fixture(scope="module")
def complete(sample_manifest, sample_scores) -> Manifest:
    manifest = sample_manifest()
    return manifest.model_copy(update={"metrics": evaluate_scores(sample_scores(400), manifest, 100)})


def test_the_card_has_the_sections_of_mitchell_et_al_and_leads_with_what_matters(complete):
    headings = re.findall(r"^## (.+)$", render_card(complete), re.MULTILINE)
    assert headings == [
        "Intended use",
        "How good it is where it matters",
        "Out of scope",
        "On a camera or archive that it has not seen",
        "Inside each domain",
        "Results on the test split",
        "Subgroups",
        "What the data hold little of",
        "Short cuts",
        "Ordinary photographs of skin",
        "Calibration",
        "Threshold and uncertain band",
        "Images that are not assessed",
        "Model details",
        "Data",
        "Factors",
        "Metrics",
        "Limitations",
        "Ethical considerations",
        "Disclaimer",
    ]


def test_the_outline_has_a_section_where_the_graph_draws_one(complete):
    agreement = {"dice": Metric(value=0.931, ci95=(0.925, 0.937)), "jaccard": Metric(value=0.876)}
    report = OutlineReport(split="test", count=66, blank=0, unpaintable=0, metrics=agreement, domains={"clinic b": agreement})
    errors = {"area": (0.83, 1.21), "diameter": (0.9, 1.1), "asymmetry": (-0.021, 0.034), "border": (0.95, 1.05)}
    outlined = complete.model_copy(update={"outline": OutlineInfo(errors=errors, images=77)})
    card = render_card(outlined, findings=Findings(outlines=report))
    section = card.split("## The outline of the lesion")[1].split("\n## ")[0]
    assert section.count("0.931 (0.925 to 0.937)") == 2
    for text in ("66 test images", "clinic b", "77 calibration images", "0.83 to 1.21 times", "-0.021 to +0.034"):
        assert text in section
    assert "dice" not in card.replace(section, "").lower()


def test_the_first_table_is_of_biopsied_lesions_beside_published_devices(complete):
    def metric(value):
        return Metric(value=value, ci95=(value - 0.05, value + 0.05))

    biopsied = {
        "n": Metric(value=280), "n_malignant": Metric(value=116), "roc_auc": metric(0.712), "mean_auc_inside": metric(0.734),
        "sensitivity": metric(0.923), "specificity": metric(0.345), "specificity_at_sensitivity_0.95": metric(0.456),
    }  # fmt: skip
    card = render_card(complete.model_copy(update={"metrics": complete.metrics | {"test/biopsied": biopsied}}))
    first = re.search(r"(?:^\|.*\|$\n?)+", card, re.MULTILINE)[0]
    assert "| **This model at its threshold** | 0.923 (0.873 to 0.973) | 0.345 (0.295 to 0.395) | - |" in first
    assert "inside a camera (mean over cameras)** | - | - | 0.734 (0.684 to 0.784) |" in first
    for name, sensitivity, specificity in PUBLISHED:
        assert f"| {name} | {sensitivity} | {specificity} | - |" in first
    assert "280, of which 116 malignant" in card
    assert "of 100 cancers that a doctor found suspicious enough to cut out, it flagged about 92" in card
    assert "it still flagged about 66" in card
    overall = complete.metrics["test"]["roc_auc"]
    assert f"ROC AUC is {overall.value:.3f}" in card.split("## Out of scope")[0]
    assert "mostly rewards recognising the camera" in card


def test_without_biopsies_the_card_says_that_nothing_is_known(complete):
    start = render_card(complete).split("## Out of scope")[0]
    assert "Not measured" in start
    assert "its answers prove nothing" in start
    assert "DermaSensor" not in start


def test_results_stand_overall_and_inside_each_source_with_intervals(complete):
    card = render_card(complete)
    assert "|  | all sources | a | b |" in card
    line = next(line for line in card.splitlines() if line.startswith("| ROC AUC |"))
    for key in ("test", "test/source=a", "test/source=b"):
        metric = complete.metrics[key]["roc_auc"]
        assert f"{metric.value:.3f} ({metric.ci95[0]:.3f} to {metric.ci95[1]:.3f})" in line
    for metric in (
        "Sensitivity, melanoma alone",
        "Uncertain",
        "Calibration slope",
        "Negative predictive value at prevalence 0.05",
    ):
        assert f"| {metric}" in card


def test_every_table_is_rectangular(complete):
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", render_card(complete), re.MULTILINE)
    assert len(blocks) >= 8
    for block in blocks:
        lines = block.strip().splitlines()
        assert len(lines) > 2
        assert len({line.count("|") for line in lines}) == 1


def test_calibration_threshold_band_and_novelty_are_the_manifest_s(complete):
    card = render_card(complete)
    for text in (
        "assumes that 31.2% of the images",
        "Temperature 1.250, malignant shift -0.750",
        "from 0.111 to 0.022",
        "The threshold is 0.3000",
        "sensitivity of 95%",
        "lets 5% of malignant lesions",
        "From 0.2000 to 0.4000",
        "| share uncertain | 0.188 |",
        "novelty exceeds 9.5",
        "1.23% of real lesions",
        "| photos rejected | 0.875 |",
        "| sharpness | too low | 10 | 10 | 1 |",
    ):
        assert text in card, text


def test_no_number_is_typed_by_hand(sample_manifest):
    """With another manifest every number differs, except the confidence level and the ideal values of calibration."""
    one = sample_manifest(metrics={"test": {"roc_auc": {"value": 0.901, "ci95": (0.892, 0.913)}, "n": {"value": 1234}}})
    other = sample_manifest(
        version="2",
        created_at="2031-11-12T00:00:00Z",
        input={"size": 96},
        decision={"threshold": 0.61, "target_sensitivity": 0.87, "uncertain": (0.52, 0.73)},
        calibration={
            "method": "x",
            "temperature": 3.5,
            "malignant_shift": 0.25,
            "prevalence": 0.47,
            "ece_before": 0.66,
            "ece_after": 0.55,
        },
        novelty={"limit": 78.0, "false_rejection_rate": 0.46},
        quality={},
        metrics={"test": {"roc_auc": {"value": 0.678, "ci95": (0.567, 0.789)}, "n": {"value": 4321}}},
        training={"config": {}, "seed": 8, "revision": "def", "seconds": 4440.0},
        data={"sources": ["x"], "fingerprint": "e" * 64, "counts": {}, "licence": "none"},
    )
    words = [set(re.findall(r"(?<![\w.`])\d[\d.]*%?", render_card(manifest))) for manifest in (one, other)]
    assert {number.rstrip(".") for number in words[0] & words[1]} <= {"95%", "1", "0"}


def test_terms_of_the_images_bind_the_weights(complete, sample_manifest):
    assert "exclude commercial use" in render_card(complete)
    own = {"sources": ["x"], "fingerprint": "e" * 64, "counts": {"train": 5}, "licence": "CC0"}
    card = render_card(sample_manifest(data=own))
    assert "Licence of the training images: CC0." in card
    assert "commercial" not in card


def test_the_card_says_who_is_rare_in_the_data_and_that_other_cameras_may_do_worse(complete):
    card = render_card(complete)
    for word in (
        "Dark skin",
        "Children",
        "palms",
        "nails",
        "mucosa",
        "Amelanotic",
        "nodular",
        "other cameras",
        "Trained on few centres.",
    ):
        assert word in card
    assert card.count(DISCLAIMER) == 2
    assert "Below the threshold is not benign" in card


def test_further_sections_come_before_the_disclaimer(complete):
    card = render_card(complete, {"Resuming": "Weights are equal after a kill."})
    assert card.index("## Ethical") < card.index("## Resuming\n\nWeights are equal") < card.index("## Disclaimer")


def test_a_manifest_without_metrics_still_has_a_card(sample_manifest):
    assert "## Results" not in render_card(sample_manifest())


def test_text_with_a_bar_does_not_break_a_table(sample_manifest):
    training = {"config": {"note": "a|b"}, "seed": 1, "revision": "r", "seconds": 1.0}
    assert "| note | a\\|b |" in render_card(sample_manifest(training=training))


def test_settings_that_the_training_did_not_use_are_left_out(sample_manifest):
    unused = {
        "consistency": 0.0,
        "minutes": None,
        "taps": [],
        "teachers": [],
        "teaching": 0.5,
        "domain_offset": 0.0,
        "hidden_offset": 0.4,
    }
    config = {"augment": False, "epochs": 1, "seed": 0, "style_swap": 0.4, **unused}
    card = render_card(sample_manifest(training={"config": config, "seed": 0, "revision": "r", "seconds": 1.0}))
    table = card.split("Training settings:")[1].split("##")[0]
    assert re.findall(r"^\| (\w+) \| (\S+) \|$", table, re.M) == [
        ("setting", "value"),
        ("augment", "False"),
        ("epochs", "1"),
        ("seed", "0"),
        ("style_swap", "0.4"),
    ]
    with_teachers = {"config": {"teachers": ["a"], "teaching": 0.5}, "seed": 0, "revision": "r", "seconds": 1.0}
    assert "| teaching | 0.5 |" in render_card(sample_manifest(training=with_teachers))


def test_thorough_mode_states_its_own_rule_and_gain(sample_manifest):
    rule = {"threshold": 0.41, "target_sensitivity": 0.9, "uncertain": (0.3, 0.5)}
    card = render_card(sample_manifest(thorough={"decision": rule, "gain": {"auc": 0.0125}}))
    assert "The threshold is 0.4100" in card
    assert "Gain: auc 0.013" in card or "Gain: auc 0.012" in card


def test_names_in_words():
    assert describe("roc_auc") == "ROC AUC"
    assert describe("sensitivity_at_specificity_0.90") == "Sensitivity at specificity 0.90"
    assert describe("something_new") == "something new"


def test_what_was_not_looked_into_is_said_not_to_be_measured(complete):
    card = render_card(complete)
    short_cuts = card.split("## Short cuts")[1].split("\n## ")[0]
    assert short_cuts.count("Not measured") == 3
    assert "Not measured" in card.split("## On a camera or archive that it has not seen")[1].split("\n## ")[0]
    assert "Not measured" in card.split("## Inside each domain")[1].split("\n## ")[0]
    photographs = card.split("## Ordinary photographs of skin")[1].split("\n## ")[0]
    assert "Not measured" in photographs
    assert "unknown what share" in photographs


FIGURE = Metric(value=0.123, ci95=(0.045, 0.321))


def curve_point(domain, ece, sensitivity):
    return CurvePoint(
        domain=domain,
        images=100,
        draws=50,
        ece=ece,
        ece_high=0.062,
        within_bound=0.84,
        sensitivity=sensitivity,
        sensitivity_low=0.872,
        specificity=0.333,
    )


def every_finding() -> Findings:
    worse = GroupComparison(difference=Metric(value=-0.2, ci95=(-0.3, -0.1)), p=0.002, p_holm=0.004, verdict="worse")
    group = Subgroup(
        family="age", name="under 18", count=40, malignant=21, melanoma=3,
        metrics={"sensitivity": FIGURE}, compared={"sensitivity": worse},
    )  # fmt: skip
    return Findings(
        subgroups=[group],
        held=[Held(side="train", kind="children (under 18)", known=900, images=17, malignant=4, melanoma=1)],
        stress=Stress(split="test", count=77, artefacts={"hair": {"auc_loss": FIGURE, "flipped": FIGURE}}),
        outlines=OutlineReport(split="test", count=66, blank=5, unpaintable=4, metrics={"peak_inside": FIGURE}),
        close_ups=OutOfDistribution(count=55, undecodable=0, accepted=FIGURE, auroc=FIGURE, lesions_rejected=FIGURE),
        left_out={"b": {"roc_auc": FIGURE}, "c": {"roc_auc": Metric(value=0.323)}},
        orientations=OrientationReport(split="test", count=44, metrics={"both_answers": FIGURE}),
        domains=DomainReport(
            split="test",
            biopsied={
                "n": Metric(value=9),
                "n_malignant": Metric(value=4),
                "roc_auc": FIGURE,
                "sensitivity": FIGURE,
                "specificity": FIGURE,
            },
            domains=[
                DomainFigures(
                    name="cam", biopsy_known=True, benign=5, malignant=4, images=99, auc=FIGURE, ece=FIGURE, ece_bound=0.1
                )
            ],
            cameras=[CameraAuc(higher="cam", lower="old", higher_count=31, lower_count=32, auc=FIGURE)],
        ),
        learning_curve=[curve_point("cam", 0.031, 0.951), curve_point("old", 0.051, 0.851)],
    )


def test_findings_stand_in_the_card(complete):
    findings = every_finding()
    card = render_card(complete, findings=findings)
    assert "Not measured" not in card
    assert "- age under 18: Sensitivity, all malignant" in card
    assert "too few to tell: ROC AUC, Specificity" in card
    assert "| train | children (under 18) | 17 | 4 | 1 | 900 |" in card
    assert "| hair | 0.123 (0.045 to 0.321) | 0.123 (0.045 to 0.321) |" in card
    assert "| Heat peak inside the outline | 0.123 (0.045 to 0.321) |" in card
    assert "12.3% (4.5% to 32.1%) were wrongly accepted" in card
    assert "| b | 0.123 (0.045 to 0.321) |" in card
    assert "| **mean of 2 domains** | 0.223 |" in card
    assert "| cam | biopsied lesions | 4 of 9 | 0.123 (0.045 to 0.321) | 0.123 (0.045 to 0.321) | 0.100 | yes |" in card
    assert "| cam above old | 31 and 32 | 0.123 (0.045 to 0.321) |" in card
    assert "| Low suspicion and suspicious for one lesion | 0.123 (0.045 to 0.321) |" in card
    assert "| 100 | 2 | 0.041 (0.062) | 84% | 0.901 (0.872) | 0.333 |" in card


def test_a_time_that_nobody_measured_is_not_invented(complete):
    def card(seconds):
        return render_card(complete.model_copy(update={"training": complete.training.model_copy(update={"seconds": seconds})}))

    assert ", 74 minutes of training." in card(4440.0)
    assert ", training time not recorded." in card(None)


def test_figures_of_findings_repeat_in_the_manifest(complete):
    findings = every_finding()
    repeated = findings.metrics()
    assert repeated["test/stress=hair"] == {"auc_loss": FIGURE, "flipped": FIGURE}
    assert repeated["test/outlines"] == {"peak_inside": FIGURE}
    assert repeated["test/orientations"] == {"both_answers": FIGURE}
    assert repeated["test/domain=cam"]["roc_auc"] == FIGURE
    manifest = complete.model_copy(update={"metrics": complete.metrics | repeated})
    assert "|  | all sources | a | b |" in render_card(manifest, findings=findings)


def test_a_calibration_error_beyond_the_bound_is_told(sample_manifest):
    def card(ece):
        return render_card(sample_manifest(metrics={"test": {"ece": {"value": ece}, "ece_bound": {"value": 0.05}}}))

    assert "| The error against that bound | above it |" in card(0.06)
    assert "| The error against that bound | not above it |" in card(0.04)


def test_a_count_is_no_decimal(complete):
    coverage = {"alpha_malignant": 0.025, "sets_that_bind": 3.0, "sensitivity/domain=clinic": 0.9}
    calibration = complete.calibration.model_copy(update={"coverage": coverage})
    card = render_card(complete.model_copy(update={"calibration": calibration}))
    assert "held to the sensitivity | 3 |" in card
    assert "| sensitivity, clinic | 0.900 |" in card

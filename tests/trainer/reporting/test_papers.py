"""The documents that hospitals ask for: every figure comes from the manifest, and each document says what is unknown."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from aiderm_core import DISCLAIMER
from aiderm_core.bundle.manifest import Manifest
from aiderm_trainer.reporting.papers import PAPERS, render_paper, write_papers
from aiderm_trainer.reporting.wording import cell, percent


@pytest.fixture
def manifest(make_bundle, tmp_path: Path) -> Manifest:
    metrics = {
        "test": {"roc_auc": {"value": 0.913, "ci95": [0.88, 0.94]}},
        "test/biopsied": {"sensitivity": {"value": 0.957, "ci95": [0.91, 0.98]}},
        "test/stress=hair": {"flipped": {"value": 0.127}},
        "test/stress=ruler": {"flipped": {"value": 0.011}},
    }
    return Manifest.load(make_bundle(tmp_path, metrics=metrics))


@pytest.mark.parametrize("name", PAPERS)
def test_each_paper_warns_and_says_what_is_not_known(name: str, manifest: Manifest) -> None:
    text = render_paper(name, manifest)
    assert text.startswith("# ")
    assert f"{manifest.name} {manifest.version}" in text.splitlines()[0]
    assert DISCLAIMER in text
    assert len(re.findall(r"^- ", text.split("## What is not known")[1], re.MULTILINE)) >= 1
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for before, after in pairwise(rows):
        if text.index(after) == text.index(before) + len(before) + 1:
            assert before.count("|") == after.count("|"), (before, after)


def test_figures_are_those_of_the_manifest(manifest: Manifest) -> None:
    label = render_paper("facts_label", manifest)
    assert f"| Sensitivity, biopsied lesions | {cell(manifest.metrics['test/biopsied']['sensitivity'])} |" in label
    assert f"| ROC AUC, all lesions | {cell(manifest.metrics['test']['roc_auc'])} |" in label
    assert "| Specificity, biopsied lesions | not known (not measured for this bundle) |" in label
    assert f"by artefacts up to {percent(0.127)} (hair)" in render_paper("threat_model", manifest)
    assert manifest.data.fingerprint in render_paper("data_sheet", manifest)


def test_what_was_not_measured_is_not_claimed(make_bundle, tmp_path: Path) -> None:
    manifest = Manifest.load(make_bundle(tmp_path, metrics={}))
    assert "a share that was not measured" in render_paper("threat_model", manifest)
    assert render_paper("facts_label", manifest).count("not measured for this bundle") == 5


def test_all_are_written(manifest: Manifest, tmp_path: Path) -> None:
    written = write_papers(manifest, tmp_path / "new" / "folder")
    assert [path.stem for path in written] == list(PAPERS)
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(written)


def test_an_unknown_paper_is_refused(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="Received: poem; allowed: facts_label"):
        render_paper("poem", manifest)

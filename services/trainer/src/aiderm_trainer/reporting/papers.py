"""Renders the documents that a hospital asks for before it considers a model, from the bundle's manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.files import replacing
from aiderm_trainer.evaluation.cohorts import main_split
from aiderm_trainer.reporting.render import render

PAPERS: Final = ("facts_label", "technical_documentation", "gmlp_checklist", "data_sheet", "threat_model")
_FLIPPED: Final = "flipped"


def render_paper(name: str, manifest: Manifest) -> str:
    """Renders one of ``PAPERS`` as Markdown; facts that the manifest lacks are stated as not known.

    Raises:
        ValueError: no document has this name.
    """
    if name not in PAPERS:
        raise ValueError(f"no such paper. Received: {name}; allowed: {', '.join(PAPERS)}")
    splits = sorted({key.split("/")[0] for key in manifest.metrics})
    flips = [
        (key.partition("stress=")[2], metrics[_FLIPPED].value)
        for key, metrics in manifest.metrics.items()
        if "stress=" in key and _FLIPPED in metrics
    ]
    text = render(
        f"papers/{name}.md.j2",
        manifest=manifest,
        metrics=manifest.metrics,
        split=main_split(splits) if splits else "test",
        flips=flips,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write_papers(manifest: Manifest, folder: Path) -> list[Path]:
    """Writes every document into ``folder``, creating the folder if needed; returns the files' paths.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in PAPERS:
        path = folder / f"{name}.md"
        with replacing(path) as file:
            file.write(render_paper(name, manifest).encode())
        written.append(path)
    return written

"""The papers that a hospital asks for before it looks at a model, filled from the bundle's manifest."""

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
    """One of ``PAPERS`` as Markdown; what the manifest does not hold is said not to be known.

    Raises:
        ValueError: there is no such paper.
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
    """Writes every paper into ``folder``, which is made when missing; returns the files.

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

"""Lists the worst errors by checksum in the report and, only on request, as images in a folder that the user names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_trainer.evaluation.cohorts import MAIN_SPLIT, decisions, main_split
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import Scores

WORST_ERRORS = 50
PICTURES_FOLDER = "worst"
_TILE, _COLUMNS, _SHOWN = 160, 6, 24
_CAPTION = 18


class WorstError(ReportPart):
    """An image on the wrong side of the threshold; ``number`` is its row among the scores."""

    error: Literal["missed", "false_alarm"]
    sha256: str
    source: str
    dx: str
    malignancy: float
    decision: str
    number: int


def worst_errors(scores: Scores, manifest: Manifest, split: str) -> list[WorstError]:
    """Malignant rows with the lowest malignancy, then benign ones with the highest, at most ``WORST_ERRORS`` of each."""
    said, threshold = decisions(scores, manifest), manifest.decision.threshold
    found: dict[Literal["missed", "false_alarm"], list[WorstError]] = {"missed": [], "false_alarm": []}
    for i in np.argsort(scores.malignancy, kind="stable"):
        row, called = scores.rows[i], bool(scores.malignancy[i] >= threshold)
        if (row.split or MAIN_SPLIT) != split or called == bool(row.malignant):
            continue
        kind: Literal["missed", "false_alarm"] = "missed" if row.malignant else "false_alarm"
        found[kind].append(
            WorstError(
                error=kind, sha256=row.sha256, source=row.source, dx=row.dx,
                malignancy=float(scores.malignancy[i]), decision=str(said[i]), number=int(i),
            )
        )  # fmt: skip
    return [*found["missed"][:WORST_ERRORS], *found["false_alarm"][::-1][:WORST_ERRORS]]


def write_table(path: Path, errors: Sequence[WorstError], threshold: float) -> None:
    """Writes errors.csv, which names images by checksum: no image and no path leaves the data folder."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["error", "sha256", "source", "dx", "malignancy", "threshold", "decision"])
        for each in errors:
            score = f"{each.malignancy:.6f}"
            table.writerow([each.error, each.sha256, each.source, each.dx, score, f"{threshold:.6f}", each.decision])


def write_pictures(folder: Path, scores: Scores, manifest: Manifest, root: Path) -> list[Path]:
    """Writes contact sheets ``worst/missed.png`` and ``worst/false_alarm.png``, kept out of git by a .gitignore beside them.

    The images belong to the owner of the data: do not publish them with a report.

    Args:
        folder: the report's folder.
        scores: the bundle's scores.
        manifest: the bundle's manifest.
        root: folder of the images.

    Returns:
        The files that were written.
    """
    split = main_split(sorted({row.split or MAIN_SPLIT for row in scores.rows}))
    errors = worst_errors(scores, manifest, split)
    target = folder / PICTURES_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    (target / ".gitignore").write_text("*\n", encoding="utf-8")
    written = []
    for kind in ("missed", "false_alarm"):
        shown = [each for each in errors if each.error == kind][:_SHOWN]
        if not shown:
            continue
        tiles = [_tile(scores, each, root) for each in shown]
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % _COLUMNS)
        sheet = np.vstack([np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)])
        path = target / f"{kind}.png"
        if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
            raise OSError(f"cannot write {path}")
        written.append(path)
    return written


def _tile(scores: Scores, error: WorstError, root: Path) -> NDArray[np.uint8]:
    pixels = decode_image((root / scores.rows[error.number].path).read_bytes()).pixels
    tile = np.full((_TILE + _CAPTION, _TILE, 3), 255, np.uint8)
    tile[:_TILE] = to_model_input(pixels, _TILE)
    text = f"{error.sha256[:8]} {error.dx or '?'} {error.malignancy:.3f}"
    cv2.putText(tile, text, (3, _TILE + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return tile

"""Draws the synthetic pictures of the page's gallery, chosen so that the served model gives every kind of answer.

    python frontend/tools/choose_samples.py

Run it again after another model was promoted. It writes ``frontend/public/img/samples/KIND.jpg``; the pictures are drawn by
``aiderm_trainer.data.synthetic`` and show nobody. tests/frontend/test_shipped.py holds the files against the served model.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.assess import ImageAssessment, assess
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.bundle.store import ModelStore
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import Runtime, load_runtime
from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.evaluation.drawn_artefacts import apply

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "frontend" / "public" / "img" / "samples"
SIZE = 448
TRIES = 120
MARGIN = 0.08  # log-odds between an answer and the nearest limit
USUAL = 0.8  # of the limit of novelty; the page warns above it
KINDS = ("suspicious", "uncertain", "low", "hair", "blurred", "other")

Pixels = NDArray[np.uint8]


def encoded(pixels: Pixels) -> bytes:
    """A JPEG file of RGB pixels."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise RuntimeError("OpenCV could not encode a sample")
    return bytes(data.tobytes())


def still_life() -> Pixels:
    """A cup on a table: no lesion."""
    rows = np.linspace(0, 1, SIZE, dtype=np.float32)[:, np.newaxis, np.newaxis]
    picture = ((1 - rows) * (214, 226, 235) + rows * (236, 228, 214)).repeat(SIZE, axis=1).astype(np.uint8)
    table = int(SIZE * 0.68)
    picture[table:] = (146, 102, 66)
    for at in range(table, SIZE, 17):
        picture[at : at + 2] = (128, 88, 56)
    cv2.ellipse(picture, (SIZE // 2, int(SIZE * 0.8)), (150, 22), 0, 0, 360, (108, 74, 48), -1, cv2.LINE_AA)
    cv2.circle(picture, (int(SIZE * 0.72), int(SIZE * 0.56)), 52, (40, 92, 150), 20, cv2.LINE_AA)
    cv2.rectangle(picture, (int(SIZE * 0.3), int(SIZE * 0.36)), (int(SIZE * 0.7), int(SIZE * 0.78)), (46, 106, 168), -1)
    cv2.ellipse(picture, (SIZE // 2, int(SIZE * 0.78)), (int(SIZE * 0.2), 20), 0, 0, 360, (46, 106, 168), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (SIZE // 2, int(SIZE * 0.36)), (int(SIZE * 0.2), 24), 0, 0, 360, (30, 70, 116), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (SIZE // 2, int(SIZE * 0.37)), (int(SIZE * 0.18), 18), 0, 0, 360, (70, 42, 26), -1, cv2.LINE_AA)
    return picture


def candidates(kind: str) -> Iterator[Pixels]:
    """Pictures that may serve as a kind, in the same order each time."""
    if kind == "other":
        yield still_life()
        return
    for seed in range(TRIES):
        for malignant in (True, False) if kind == "suspicious" else (False, True):
            pixels = lesion(seed, malignant, SIZE)
            if kind == "hair":
                pixels = apply("hair", pixels, f"{seed:064x}")
            elif kind == "blurred":
                pixels = cv2.GaussianBlur(pixels, (0, 0), SIZE / 56)
            yield pixels


def fits(kind: str, found: ImageAssessment) -> bool:
    """Whether an answer is the one that a kind is to show."""
    decision = str(found.verdict.decision)
    warnings = {warning.code for warning in found.warnings}
    if kind == "other":
        return decision == "rejected"
    if kind in ("hair", "blurred"):
        return decision != "rejected" and warnings == {"hair" if kind == "hair" else "sharpness"}
    wanted = {"suspicious": "suspicious", "uncertain": "uncertain", "low": "low_suspicion"}[kind]
    return decision == wanted and not warnings


def steady(found: ImageAssessment, rule: DecisionRule) -> bool:
    """Whether the answer stays the same in another file format, which moves the probability a little."""
    log_odds = [math.log(value / (1 - value)) for value in (found.malignancy, rule.threshold, *rule.uncertain)]
    return all(abs(log_odds[0] - limit) > MARGIN for limit in log_odds[1:])


def choose(kind: str, manifest: Manifest, runtime: Runtime, rule: DecisionRule) -> bytes | None:
    """The first picture whose answer fits, is steady and usual for the model, else the nearest to it; None where none fits."""
    best: tuple[float, bytes] | None = None
    for pixels in candidates(kind):
        data = encoded(pixels)
        found = assess(data, manifest=manifest, runtime=runtime, rule=rule, limits=Limits())
        unusual = found.novelty + (0.0 if kind == "other" or steady(found, rule) else manifest.novelty.limit)
        if fits(kind, found) and (best is None or unusual < best[0]):
            best = (unusual, data)
            sys.stdout.write(f"{kind}: {found.verdict.decision}, {found.malignancy:.3f}, novelty {found.novelty:.2f}\n")
            if (found.novelty < USUAL * manifest.novelty.limit and steady(found, rule)) or kind in ("hair", "blurred", "other"):
                break
    return None if best is None else best[1]


def main() -> None:
    """Draws every kind, and names those that the model answers otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder of the models (default: models)")
    parser.add_argument("--model", default="melanoma", help="name of the model (default: melanoma)")
    arguments = parser.parse_args()
    store = ModelStore(arguments.models)
    version = store.serving(arguments.model)
    manifest = store.verified(arguments.model, version)
    variant = manifest.variant("openvino", "f32")
    runtime = load_runtime("openvino", store.path(arguments.model, version) / variant.path, threads=1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = []
    for kind in KINDS:
        data = choose(kind, manifest, runtime, variant.decision or manifest.decision)
        if data is None:
            missing.append(kind)
        else:
            (FOLDER / f"{kind}.jpg").write_bytes(data)
    if missing:
        raise SystemExit(f"{TRIES} seeds hold no picture that {arguments.model} {version} answers so: {', '.join(missing)}")


if __name__ == "__main__":
    main()

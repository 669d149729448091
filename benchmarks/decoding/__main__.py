"""Measures how the scale of decoding and the way of shrinking change a model's answers, and what they cost. See README.md."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from benchmarks.decoding.enlarge import enlarge
from benchmarks.processor import processor
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.decision import decide
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import assessed_region, crop
from aiderm_core.quality import measurements
from aiderm_core.runtime import Outputs, load_runtime
from aiderm_trainer.data.split import read_split

RESULT = Path(__file__).with_name("result.json")
QUALITY = 92  # of the JPEG files that are made
REFERENCE = "full scale, areas"

Pixels = NDArray[np.uint8]


def shrunk(data: bytes, size: int, eighths: int, method: int) -> Pixels:
    """Decodes a JPEG at ``eighths``/8 of its size and shrinks its central square in one step."""
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    least = {"min_height": -(-height * eighths // 8), "min_width": -(-width * eighths // 8)}
    pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True, **least)
    square = crop(pixels, assessed_region(pixels.shape[1], pixels.shape[0]))
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), np.uint8)


def in_two_steps(data: bytes, size: int) -> Pixels:
    """Decodes at full scale; shrinks the central square to twice ``size``, then to ``size``, with seven more bits in between."""
    pixels = decode_image(data).pixels
    square = crop(pixels, assessed_region(pixels.shape[1], pixels.shape[0]))
    twice = cv2.resize(square.astype(np.uint16) * 128, (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR)
    return np.asarray((cv2.resize(twice, (size, size), interpolation=cv2.INTER_AREA) + 64) // 128, np.uint8)


def rules(side: int, size: int) -> dict[str, Callable[[bytes], Pixels]]:
    """Ways from a JPEG whose shorter side is ``side`` to the model's input; the first is the reference."""
    found: dict[str, Callable[[bytes], Pixels]] = {
        REFERENCE: lambda data: shrunk(data, size, 8, cv2.INTER_AREA),
        "areas in two steps": lambda data: in_two_steps(data, size),
    }
    for eighths in (6, 4, 2):
        if side * eighths >= 8 * size:
            method = cv2.INTER_LINEAR if side * eighths < 8.5 * size else cv2.INTER_AREA
            found[f"{eighths}/8 of the scale"] = lambda data, eighths=eighths, method=method: shrunk(data, size, eighths, method)
    return found


def photograph(path: Path, side: int) -> tuple[bytes, bool]:
    """A JPEG whose shorter side is at least ``side``, the file itself or an enlarged copy; and whether it was enlarged."""
    data = path.read_bytes()
    pixels = decode_image(data).pixels
    if min(pixels.shape[:2]) >= side and data.startswith(b"\xff\xd8"):
        return data, False
    square = crop(pixels, assessed_region(pixels.shape[1], pixels.shape[0]))
    while len(square) * 2 < side:
        square = enlarge(square, 2 * len(square))
    beside = side // 6  # 4:3
    large = cv2.copyMakeBorder(enlarge(square, side), 0, 0, beside, beside, cv2.BORDER_REFLECT_101)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(large, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return encoded.tobytes(), True


class Answers:
    """The results of one rule, image by image."""

    def __init__(self) -> None:
        self.malignancy: list[float] = []
        self.novelty: list[float] = []
        self.decisions: list[str] = []
        self.warnings: list[tuple[str, ...]] = []
        self.sharpness: list[float] = []
        self.milliseconds: list[float] = []

    def add(self, square: Pixels, outputs: Outputs, at: int, side: int, manifest: Manifest) -> None:
        measures = measurements.measure(square, square, side)
        found = measurements.warnings(measures, manifest.quality)
        malignancy, novelty = float(np.clip(outputs.malignancy[at], 0, 1)), float(outputs.novelty[at])
        self.malignancy.append(malignancy)
        self.novelty.append(novelty)
        self.decisions.append(decide(malignancy, novelty, measures, found, manifest).decision.value)
        self.warnings.append(tuple(warning.code for warning in found))
        self.sharpness.append(measures["sharpness"])

    def against(self, other: Answers, threshold: float) -> dict[str, float]:
        """Shares and differences between these answers and others to the same images."""
        malignancy, novelty = np.array([self.malignancy, other.malignancy]), np.array([self.novelty, other.novelty])
        moved, drifted = np.abs(malignancy[0] - malignancy[1]), np.abs(novelty[0] - novelty[1])
        sides = malignancy >= threshold
        found = {
            "flipped": (sides[0] != sides[1]).mean(),
            "decision_changed": np.mean([one != two for one, two in zip(self.decisions, other.decisions, strict=True)]),
            "warnings_changed": np.mean([one != two for one, two in zip(self.warnings, other.warnings, strict=True)]),
            "malignancy_median": np.median(moved),
            "malignancy_99%": np.quantile(moved, 0.99),
            "novelty_median": np.median(drifted),
            "novelty_99%": np.quantile(drifted, 0.99),
            "sharpness_ratio": np.median(np.array(self.sharpness) / np.maximum(other.sharpness, 1e-9)),
            "processor_time_ratio": np.median(np.array(self.milliseconds) / other.milliseconds),
        }
        return {"images": len(self.malignancy)} | {name: round(float(value), 5) for name, value in found.items()}


def markdown(report: dict[str, Any]) -> str:
    """The content of result.json as a table for each size of photograph."""
    lines = []
    for size, found in report.items():
        images = found["against " + REFERENCE][REFERENCE]["images"]
        made = f", {found['enlarged']:.0%} of them enlarged" if found["enlarged"] else ""
        lines += [f"{size}: {found['model']}, {images:,} {found['rows']} images{made}, on {found['processor']}.", ""]
        lines += [
            "| rule | threshold crossed | another decision | other warnings | malignancy moves by (median; 99%) "
            "| processor time of decoding and shrinking |",
            "|---|---|---|---|---|---|",
        ]
        for rule, each in found["against " + REFERENCE].items():
            shares = " | ".join(f"{each[name]:.2%}" for name in ("flipped", "decision_changed", "warnings_changed"))
            moved = f"{each['malignancy_median']:.4f}; {each['malignancy_99%']:.3f}"
            lines.append(f"| {rule} | {shares} | {moved} | {each['processor_time_ratio']:.2f} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("models/melanoma/10"))
    parser.add_argument("--split", type=Path, default=Path("services/trainer/splits/lesions.csv"))
    parser.add_argument("--data", type=Path, required=True, help="folder that the split's paths are relative to")
    parser.add_argument("--rows", default="validation", help="which rows of the split")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--side", type=int, default=450, help="shorter side of a photograph; smaller images are enlarged")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    manifest = Manifest.load(options.bundle)
    runtime = load_runtime("openvino", options.bundle, threads=1)
    rows = [row for row in read_split(options.split) if row.split == options.rows]
    chosen = np.random.default_rng(0).permutation(len(rows))[: options.images]
    ways = rules(options.side, manifest.input.size)
    answers, enlarged = {name: Answers() for name in ways}, 0
    for number in chosen:
        data, made = photograph(options.data / rows[number].path, options.side)
        enlarged += made
        squares = []
        for name, way in ways.items():
            began = time.process_time()
            squares.append(way(data))
            answers[name].milliseconds.append(1000 * (time.process_time() - began))
        outputs = runtime.run(np.stack(squares))
        for at, (square, found) in enumerate(zip(squares, answers.values(), strict=True)):
            found.add(square, outputs, at, options.side, manifest)
    reference = answers[REFERENCE]
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    report[f"{options.side * 4 // 3} x {options.side}"] = {
        "model": f"{manifest.name} {manifest.version}",
        "rows": options.rows,
        "enlarged": enlarged / len(chosen),
        "processor": processor(),
        "against " + REFERENCE: {name: found.against(reference, manifest.decision.threshold) for name, found in answers.items()},
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    options.out.with_suffix(".md").write_text(markdown(report))


if __name__ == "__main__":
    main()

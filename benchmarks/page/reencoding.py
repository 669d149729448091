"""Measures how the page's encoders change the answers: decisions for an image as it is, and for what the page would send.

    python benchmarks/page/reencoding.py --split services/trainer/splits/lesions.csv --images FOLDER

Runs the page's code in Chromium on the validation rows of a split, and the served model on what comes out. It uses validation
rows because the result may lead to another choice of format or quality; test rows stay untouched. Writes ``reencoding.json``
and ``reencoding.md``.
"""

from __future__ import annotations

import argparse
import base64
import csv
import functools
import http.server
import io
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from aiderm_core.assess import assess
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.bundle.store import ModelStore
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import Runtime, load_runtime
from aiderm_trainer.evaluation.bootstrap import exact_interval_at_bound, replicate_weights

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).with_name("reencoding.json")
ENLARGED = 4  # factor before a smaller copy of the original size is made, as when 8,000 pixels become 2,000

# Encodes a file as the page does; base64 in and out.
ENCODE = """async ([kind, encoded, enlarged]) => {
  const [bitmap, metadata] = await Promise.all(
    ['js/intake/bitmap.js', 'js/intake/metadata.js'].map((file) => import(new URL(file, location.href))));
  const file = new File([Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))], 'image');
  const canvas = async () => {
    const picture = await bitmap.bitmapOf(file);
    const made = Object.assign(document.createElement('canvas'), { width: picture.width, height: picture.height });
    made.getContext('2d').drawImage(picture, 0, 0);
    return [made, Math.max(made.width, made.height)];
  };
  const make = {
    metadata: () => metadata.withoutMetadata(file),
    png: async () => bitmap.encoded((await canvas())[0], 'image/png'),
    jpeg: async () => bitmap.encoded((await canvas())[0], 'image/jpeg'),
    smaller: async () => bitmap.smallerCopy(file, (await canvas())[1] / enlarged),
  };
  const blob = await make[kind]();
  return new Promise((resolve) => { const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(',')[1]); reader.readAsDataURL(blob); });
}"""

# Each variant's input is compared with its output. The page does not make the last two, but warns about such files.
VARIANTS = {
    "metadata": "Metadata taken out",
    "png": "Turned, or cut to at most 4 megapixels (PNG)",
    "jpeg": "Taken with the page's camera, or cut to more (JPEG, 0.95)",
    "smaller": "Smaller copy of a file that is too large (PNG)",
    "webp80": "Heavily compressed before: WebP, quality 80",
    "jpeg60": "Heavily compressed before: JPEG, quality 60",
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@contextmanager
def page_of(chromium: str) -> Iterator[Page]:
    """Opens the page without a service: only its encoders run."""
    handler = functools.partial(_Quiet, directory=str(ROOT / "frontend" / "public"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
        )
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/", wait_until="commit")
        yield page
        browser.close()
        server.shutdown()


def saved(image: Image.Image, kind: str, **options: int) -> bytes:
    """Encodes an image with Pillow."""
    file = io.BytesIO()
    image.convert("RGB").save(file, kind, **options)
    return file.getvalue()


def pair(page: Page, kind: str, data: bytes) -> tuple[bytes, bytes]:
    """Returns the image as it would be sent unchanged, and as it is encoded."""
    if kind == "webp80":
        return data, saved(Image.open(io.BytesIO(data)), "WEBP", quality=80)
    if kind == "jpeg60":
        return data, saved(Image.open(io.BytesIO(data)), "JPEG", quality=60)
    if kind == "smaller":
        image = Image.open(io.BytesIO(data)).convert("RGB")
        large = image.resize((image.width * ENLARGED, image.height * ENLARGED), Image.Resampling.BICUBIC)
        data = saved(large, "PNG", compress_level=1)
    return data, base64.b64decode(page.evaluate(ENCODE, [kind, base64.b64encode(data).decode(), ENLARGED]))


def answer(data: bytes, manifest: Manifest, runtime: Runtime, rule: DecisionRule) -> tuple[str, float]:
    """Decision and probability of malignancy; a refused file counts as a separate decision."""
    try:
        found = assess(data, manifest=manifest, runtime=runtime, rule=rule, limits=Limits())
    except ImageError as error:
        return error.code, math.nan
    return str(found.verdict.decision), found.malignancy


def share(found: list[bool], groups: list[str]) -> dict[str, object]:
    """Count, share and the share's 95% interval; photos of one lesion are one observation."""
    values = np.asarray(found, np.float64)
    value = float(values.mean())
    if value in (0.0, 1.0):
        low, high = exact_interval_at_bound(value, len(set(groups)))
    else:
        weights = np.concatenate(list(replicate_weights(groups)))
        low, high = np.percentile(weights @ values / weights.sum(1), [2.5, 97.5])
    return {"count": int(values.sum()), "share": round(value, 5), "ci95": [round(float(low), 5), round(float(high), 5)]}


def measured(
    rows: list[dict[str, str]], folder: Path, page: Page, model: tuple[Manifest, Runtime, DecisionRule]
) -> dict[str, object]:
    """Measures what changes for each variant."""
    groups = [row["group"] for row in rows]
    result: dict[str, object] = {}
    for kind, name in VARIANTS.items():
        pairs = []
        for row in rows:
            before, after = pair(page, kind, (folder / row["path"]).read_bytes())
            pairs.append((answer(before, *model), answer(after, *model)))
        moved = [abs(after[1] - before[1]) for before, after in pairs if not math.isnan(before[1] + after[1])]
        result[kind] = {
            "name": name,
            "decision_changed": share([before[0] != after[0] for before, after in pairs], groups),
            "suspicious_to_low": share([(b[0], a[0]) == ("suspicious", "low_suspicion") for b, a in pairs], groups),
            "low_to_suspicious": share([(b[0], a[0]) == ("low_suspicion", "suspicious") for b, a in pairs], groups),
            "probability_moved": {"median": round(float(np.median(moved)), 5), "most": round(float(np.max(moved)), 5)},
        }
        sys.stdout.write(f"{name}: {json.dumps(result[kind])}\n")
        sys.stdout.flush()
    return result


def table(result: dict[str, object]) -> str:
    """The result as Markdown."""

    def cell(found: dict[str, Any]) -> str:
        low, high = (100 * bound for bound in found["ci95"])
        return f"{found['count']} ({100 * found['share']:.1f}% [{low:.1f}, {high:.1f}])"

    heads = ["what is sent", "decision changed", "suspicious to low", "low to suspicious", "probability moved: median, most"]
    lines = [
        f"{result['images']} validation images of {result['lesions']} lesions, at most {result['side']} pixels a side; model "
        f"{result['model']}; Chromium {str(result['chromium']).split('.')[0]}. In brackets stand 95% intervals, by lesion.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    variants: Any = result["variants"]
    for kind in variants.values():
        cells = [cell(kind[key]) for key in ("decision_changed", "suspicious_to_low", "low_to_suspicious")]
        moved = kind["probability_moved"]
        lines.append(f"| {kind['name']} | {' | '.join(cells)} | {moved['median']:.4f}, {moved['most']:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=Path, required=True, help="CSV of aiderm-train prepare")
    parser.add_argument("--images", type=Path, required=True, help="folder that the split's paths start in")
    parser.add_argument("--count", type=int, help="so many of the validation rows, evenly spread (default: all)")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--model", default="melanoma")
    parser.add_argument("--chromium", default=os.environ.get("AIDERM_CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with arguments.split.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    if not rows:
        raise SystemExit(f"{arguments.split} has no rows of the side validation")
    if arguments.count is not None and arguments.count < 1:
        raise SystemExit(f"--count must be at least 1. Received: {arguments.count}")
    if arguments.count and arguments.count < len(rows):
        rows = [rows[int(at)] for at in np.linspace(0, len(rows) - 1, arguments.count).round()]
    store = ModelStore(arguments.models)
    version = store.serving(arguments.model)
    manifest = store.verified(arguments.model, version)
    variant = manifest.variant("openvino", "f32")
    runtime = load_runtime("openvino", store.path(arguments.model, version) / variant.path, threads=1)
    sizes = [max(Image.open(arguments.images / row["path"]).size) for row in rows]
    with page_of(arguments.chromium) as page:
        browser = page.context.browser
        result: dict[str, object] = {
            "model": f"{arguments.model} {version}",
            "images": len(rows),
            "lesions": len({row["group"] for row in rows}),
            "side": max(sizes),
            "chromium": browser.version if browser else "",
            "variants": measured(rows, arguments.images, page, (manifest, runtime, variant.decision or manifest.decision)),
        }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    arguments.out.with_suffix(".md").write_text(table(result), "utf-8")
    sys.stdout.write(table(result))


if __name__ == "__main__":
    main()

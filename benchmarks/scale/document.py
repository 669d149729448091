"""Writes docs/scale.md from result.json: what was measured, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

NODE_CORES = 16
NODES = (1, 10, 100)
IMAGES = (100_000, 10_000_000, 1_000_000_000)
KIND = "600x450"
DAY = 86_400

Rows = list[dict[str, Any]]


def write(result: dict[str, Any], path: Path) -> None:
    """Writes the document."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    rate = _mid([row for row in result["scoring"] if row["kind"] == KIND and row["cores"] == 1], "rate")
    replicas = _replicas(result["replicas"])
    single = max((row for row in replicas if row["cores"] == 1), key=lambda row: row["replicas"])
    text = environment.get_template("scale.md.j2").render(
        result=result,
        kind=KIND,
        node_cores=NODE_CORES,
        scoring=_scoring(result["scoring"]),
        cluster=_cluster(result["cluster"]),
        gain=_gain(result["cluster"]),
        archives=_archives(rate, result["bytes"][KIND], result["row_bytes"]),
        rate=rate,
        image_bytes=result["bytes"][KIND],
        replicas=replicas,
        single=single,
        core_rate=single["rate"] / single["replicas"],
    )
    path.write_text(text)


def _scoring(measured: Rows) -> Rows:
    rows = []
    for kind, cores in sorted({(row["kind"], row["cores"]) for row in measured}):
        own = [row for row in measured if (row["kind"], row["cores"]) == (kind, cores)]
        ratios = [row["rate"] / row["limit"] for row in own]
        middles = {key: _mid(own, key) for key in ("limit", "rate", "memory_mb")}
        rows.append({"kind": kind, "cores": cores, "ratio": (median(ratios), min(ratios), max(ratios)), **middles})
    return rows


def _cluster(measured: Rows) -> Rows:
    rows = []
    for nodes in sorted({row["nodes"] for row in measured}):
        own = [row for row in measured if row["nodes"] == nodes]
        share = median(row["rate"] / row["without_ray"] for row in own)
        rows.append({"nodes": nodes, "share": share, "rate": _mid(own, "rate"), "without_ray": _mid(own, "without_ray")})
    return rows


def _gain(measured: Rows) -> tuple[float, float, float]:
    """The rate of the largest number of nodes as a multiple of one node's: median, minimum and maximum of the rounds."""
    most = max(row["nodes"] for row in measured)
    rates = {(row["round"], row["nodes"]): row["rate"] for row in measured}
    ratios = [rate / rates[turn, 1] for (turn, nodes), rate in rates.items() if nodes == most]
    return median(ratios), min(ratios), max(ratios)


def _archives(rate: float, image_bytes: float, row_bytes: float) -> Rows:
    """Time, bandwidth and sizes for archives of ``IMAGES`` images on ``NODES`` nodes.

    Args:
        rate: images per second and core.
        image_bytes: size of one file.
        row_bytes: size of one row of the table, before compression.
    """
    rows = []
    for images in IMAGES:
        for nodes in NODES:
            speed = rate * NODE_CORES * nodes
            reading = speed * image_bytes / 1e6
            sizes = {"archive": _bytes(images * image_bytes), "table": _bytes(images * row_bytes)}
            row = {"images": images, "nodes": nodes, "time": _time(images / speed), "reading": reading, **sizes}
            rows.append({**row, "bottleneck": _bottleneck(images, reading)})
    return rows


def _replicas(turns: list[Rows]) -> Rows:
    rows = []
    for index in range(len(turns[0])):
        own = [turn[index] for turn in turns]
        refused = sum(row["not_answered"] for row in own)
        middles = {key: _mid(own, key) for key in ("rate", "memory_mb")}
        rows.append({"replicas": own[0]["replicas"], "cores": own[0]["cores"], "refused": refused, **middles})
    return rows


def _mid(rows: Rows, key: str) -> float:
    return float(median(row[key] for row in rows))


def _time(seconds: float) -> str:
    for unit, length in (("days", DAY), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:,.0f} {unit}"
    return f"{count / 1e6:,.0f} MB"


def _bottleneck(images: int, reading: float) -> str:
    if images > 50_000_000:
        return "the driver's memory (split the archive); then " + ("storage" if reading > 1000 else "cores")
    return "storage (above 1 GB/s)" if reading > 1000 else "cores"

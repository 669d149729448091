"""Turns measurements into ratios: a table, result.json and a plot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

LIMIT = "physical limit"
PREDICT = "FastAPI + model.predict"
MAIN = "600x450"
STAGES_AT = 8
"""Clients at once for the figures of processor time."""


def percentile(values: Iterable[float], share: float) -> float | None:
    """A percentile of milliseconds; None without values."""
    found = list(values)
    return round(float(np.percentile(found, share)), 2) if found else None


def cell(raw: dict[str, Any]) -> dict[str, Any]:
    """The figures that are kept of one measurement of one subject."""
    seconds, statuses = raw["seconds"], raw["statuses"]
    return {
        "rate": round(raw["answered"] / seconds, 2),
        "p50": percentile(raw["milliseconds"], 50),
        "p99": percentile(raw["milliseconds"], 99),
        "refused": sum(count for status, count in statuses.items() if status in ("429", "503", "504")),
        "errors": raw["broken"] + sum(c for status, c in statuses.items() if status not in ("200", "429", "503", "504")),
        "refused_p99": percentile(raw["refused"], 99),
        **_processor_ms(raw),
        "client_share": round(raw["client_seconds"] / seconds, 3),
    }


def _processor_ms(raw: dict[str, Any]) -> dict[str, float]:
    if not raw.get("sent") or "processor" not in raw:
        return {}
    found = {f"{part}_ms": round(1000 * raw[part] / raw["sent"], 3) for part in ("processor", "main_thread")}
    joules = raw.get("joules")
    return found if joules is None else {**found, "joules_per_1000": round(1000 * joules / raw["sent"], 1)}


def stage_table(result: dict[str, Any]) -> list[str]:
    """Processor time by stage, as shares of the forward pass: of the stages in turn, and of the service's main thread."""
    ours = next(name for name in result["subjects"] if name.startswith("this API"))
    measured = [(cells["stages"], _own(cells, ours)["main_thread_ms"]) for cells in result["rounds"] if _has_stages(cells, ours)]
    if not measured:
        return []
    shares = {name: [stages[name] / stages["forward"] for stages, _ in measured] for name in measured[0][0]}
    shares["event loop: network, HTTP, queue, metrics, log"] = [loop / stages["forward"] for stages, loop in measured]
    return [
        "",
        f"### {MAIN}: processor time of a request by stage, to the forward pass",
        "",
        "| stage | share |",
        "|---|---|",
        *(f"| {name} | {median(values):.3f} |" for name, values in shares.items()),
    ]


def _own(cells: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = cells.get(f"{MAIN}/{STAGES_AT}", {}).get(name, {})
    return found


def _has_stages(cells: dict[str, Any], name: str) -> bool:
    return "stages" in cells and "processor_ms" in _own(cells, name)


def spread(values: list[float]) -> dict[str, Any]:
    """Median and range of the rounds."""
    return {"median": round(median(values), 3), "range": [round(min(values), 3), round(max(values), 3)]} if values else {}


def ratios(rounds: list[dict[str, Any]], kind: str, concurrency: int, name: str, other: str, figure: str) -> list[float]:
    """``figure`` of ``name`` divided by that of ``other``, for each round in which both were measured."""
    key = f"{kind}/{concurrency}"
    found = []
    for cells in rounds:
        one, two = cells.get(key, {}).get(name), cells.get(key, {}).get(other)
        if one and two and one[figure] and two[figure]:
            found.append(one[figure] / two[figure])
    return found


def bar(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures with an aim; those that were not measured are left out."""
    rounds, names = result["rounds"], list(result["subjects"])
    own = [name for name in names if name.startswith("this API")]
    precisions = {name: name.removeprefix("this API, ") for name in own}
    ours, crowd = own[0], [c for c in result["concurrency"] if c >= 8]
    lines: list[dict[str, Any]] = []

    def add(figure: str, aim: str, values: list[float], reached: bool | None = None) -> None:
        if values:
            lines.append({"figure": figure, "aim": aim, **spread(values), **({} if reached is None else {"reached": reached})})

    def over(name: str, other: str, figure: str, at: list[int]) -> list[float]:
        return [value for c in at for value in ratios(rounds, MAIN, c, name, other, figure)]

    worst = [median(values) for c in crowd if (values := over(ours, LIMIT, "rate", [c]))]
    add(
        f"requests/s at concurrency 8-128, {MAIN}, to the physical limit", ">= 1", over(ours, LIMIT, "rate", crowd),
        bool(worst) and min(worst) >= 1.0,
    )  # fmt: skip
    for name in own[1:]:
        values = over(name, LIMIT, "rate", crowd)
        add(f"the same in {precisions[name]}, to the f32 limit", ">= 2", values, bool(values) and median(values) >= 2)
    for name, precision in precisions.items():
        add(f"the same in {precision}, to assessments without a server", "", over(name, f"no server, {precision}", "rate", crowd))
    values = over(ours, LIMIT, "p50", [1])
    add("p50 at concurrency 1 to decode + forward on all cores", "<= 1.1", values, bool(values) and median(values) <= 1.1)
    for name in own[1:]:
        add(f"p50 at concurrency 1 in {precisions[name]}, to the f32 limit", "", over(name, LIMIT, "p50", [1]))
    rest = [_own(r, ours)["processor_ms"] - sum(r["stages"].values()) for r in rounds if _has_stages(r, ours)]
    add("processor time of a request beside decode, quality and forward, ms", "<= 1", rest, bool(rest) and median(rest) <= 1)
    for name in names:
        spent = [j for cells in rounds if (j := _own(cells, name).get("joules_per_1000"))]
        add(f"joules for 1,000 answers, {name}", "", spent)
    tails = [c[ours]["p99"] / c[ours]["p50"] for r in rounds if (c := r.get(f"{MAIN}/32")) and c.get(ours, {}).get("p50")]
    add("p99 / p50 at concurrency 32", "<= 1.5", tails, bool(tails) and median(tails) <= 1.5)
    values = over(ours, PREDICT, "rate", crowd)
    add("requests/s to FastAPI + model.predict", ">= 5", values, bool(values) and median(values) >= 5)
    same = [(name, f"same runtime in {precision}", 1.8) for name, precision in precisions.items()]
    for mine, label, aim in (*same, (ours, "TensorFlow", 2.5)):
        rivals = [name for name in names if name.endswith(f", {label}")]
        per_round = [
            min(values)
            for c in crowd
            for r in rounds
            if (values := [v for rival in rivals for v in ratios([r], MAIN, c, mine, rival, "rate")])
        ]
        add(f"requests/s to the better of LitServe and BentoML, {label}", f">= {aim:g}", per_round,
            bool(per_round) and median(per_round) >= aim)  # fmt: skip
    overload = result.get("overload")
    if overload:
        add("overload: goodput to the peak", ">= 0.95", [overload["goodput"]], overload["goodput"] >= 0.95)
        if overload["refused_p99"] is not None:
            add("overload: refused within, ms (p99)", "<= 50", [overload["refused_p99"]], overload["refused_p99"] <= 50)
    about = result["subjects"][ours]
    add("memory under load, MB", "<= 300", [about["memory_mb"]], about["memory_mb"] <= 300)
    add("start to first answer, s", "<= 1.2", [about["ready_seconds"]], about["ready_seconds"] <= 1.2)
    return lines


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown tables."""
    lines = [
        f"Measured on {result['cores']} cores of {result['processor']}, {result['measured']}, model {result['model']}, "
        f"{len(result['rounds'])} round(s) of {result['seconds']:g} s a cell. Ratios are taken inside a round; "
        "in brackets their range.",
        "",
        "| figure | aim | measured | |",
        "|---|---|---|---|",
    ]
    for line in result["bar"]:
        low, high = line["range"]
        verdict = "" if "reached" not in line else "reached" if line["reached"] else "missed"
        lines.append(f"| {line['figure']} | {line['aim']} | {line['median']:g} ({low:g}-{high:g}) | {verdict} |")
    lines += stage_table(result)
    for kind in result["kinds"]:
        lines += ["", f"### {kind}: requests/s as a share of the physical limit; p50 / p99 in ms", ""]
        lines.append("| | " + " | ".join(f"{c} at once" for c in result["concurrency"]) + " | errors | MB | s to start |")
        lines.append("|---|" + "---|" * (len(result["concurrency"]) + 3))
        for name, about in result["subjects"].items():
            cells, errors = [], 0
            for c in result["concurrency"]:
                found = [r[f"{kind}/{c}"][name] for r in result["rounds"] if name in r.get(f"{kind}/{c}", {})]
                share = spread(ratios(result["rounds"], kind, c, name, LIMIT, "rate"))
                errors += sum(item["errors"] + item["refused"] for item in found)
                p50, p99 = (spread([item[p] for item in found if item[p] is not None]) for p in ("p50", "p99"))
                cells.append(
                    f"{share['median']:.2f} ({share['range'][0]:.2f}-{share['range'][1]:.2f}); "
                    f"{p50['median']:.0f} / {p99['median']:.0f}"
                    if share and p50
                    else "-"
                )
            lines.append(f"| {name} | {' | '.join(cells)} | {errors} | {about['memory_mb']:.0f} | {about['ready_seconds']:.1f} |")
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Plots requests per second as a share of the limit, with a panel for each kind of image, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(result["kinds"]), figsize=(5.2 * len(result["kinds"]), 4.2), sharey=True, squeeze=False)
    for panel, kind in zip(panels[0], result["kinds"], strict=True):
        for name in result["subjects"]:
            points = [(c, ratios(result["rounds"], kind, c, name, LIMIT, "rate")) for c in result["concurrency"]]
            points = [(c, values) for c, values in points if values]
            if not points:
                continue
            at, middle = [c for c, _ in points], [median(values) for _, values in points]
            low = [m - min(values) for m, (_, values) in zip(middle, points, strict=True)]
            high = [max(values) - m for m, (_, values) in zip(middle, points, strict=True)]
            width = 2.4 if name.startswith("this API") else 1.2
            panel.errorbar(at, middle, [low, high], marker="o", markersize=4, linewidth=width, capsize=2, label=name)
        panel.set_xscale("log", base=2)
        panel.set_xticks(result["concurrency"], [str(c) for c in result["concurrency"]])
        panel.set_title(kind)
        panel.set_xlabel("clients at once")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("requests/s, share of the physical limit")
    panels[0][0].set_ylim(bottom=0)
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(result: dict[str, Any], folder: Path) -> None:
    """Writes result.json, result.md and result.png into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "result.md").write_text(markdown(result))
    plot(result, folder / "result.png")

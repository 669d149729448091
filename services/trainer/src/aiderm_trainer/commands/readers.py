"""The command that analyses a reader study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiderm_trainer.commands.common import console, plain_errors


def reader_study(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="CSV files that the page's second reader exported.")],
    out: Annotated[Path, typer.Option(help="Folder for reader_study.json and reader_study.html.")] = Path("reader-study"),
    unsure: Annotated[str, typer.Option(help="What unsure counts as: refer or no_refer.")] = "refer",
    threshold: Annotated[float, typer.Option(help="Threshold probability of the net benefit.")] = 0.1,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of malignant cases in the net benefit.", show_default="that of the tables")
    ] = None,
) -> None:
    """Compares readers without and with the model: AUC, sensitivity, specificity, net benefit, time, and advice followed."""
    from aiderm_core.files import write_text
    from aiderm_trainer.evaluation.bootstrap import REPLICATES, SEED
    from aiderm_trainer.evaluation.reader_study import reader_study as analyse
    from aiderm_trainer.evaluation.reader_table import read_reader_tables
    from aiderm_trainer.reporting.reader_report import figures_table, reader_page
    from aiderm_trainer.reporting.terminal import terminal_table

    with plain_errors():
        if unsure not in ("refer", "no_refer"):
            raise ValueError(f"--unsure must be refer or no_refer. Received: {unsure!r}")
        found = analyse(
            read_reader_tables(tables),
            unsure="refer" if unsure == "refer" else "no_refer",
            threshold=threshold,
            prevalence=prevalence,
            replicates=REPLICATES,
            seed=SEED,
        )
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "reader_study.json", found.model_dump_json(indent=1) + "\n")
        write_text(out / "reader_study.html", reader_page(found))
    console.print(terminal_table(figures_table(found.pooled)))
    console.print(f"wrote {out / 'reader_study.html'} and reader_study.json")

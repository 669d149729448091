"""``aiderm-train``: prepare, train, compare, ensemble, export, evaluate, recalibrate, promote, rollback (contract 4)."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up lines tell nobody anything

import typer

from aiderm_trainer.commands import bundles, data, study, training

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Trains melanoma classifiers and writes the bundles that the API serves."
)
fetching = typer.Typer(no_args_is_help=True, help="Downloads images with labels from public archives.")

# In the order in which they are needed: it is the order of --help.
app.command()(data.prepare)
app.command("check-leaks")(data.check_leaks)
app.add_typer(fetching, name="fetch")
fetching.command()(data.isic)
app.command()(data.synthetic)
app.command()(training.architectures)
app.command()(training.train)
app.command()(bundles.export)
app.command()(bundles.evaluate)
app.command()(bundles.recalibrate)
app.command("learning-curve")(bundles.learning_curve)
app.command()(bundles.quantise)
app.command()(study.compare)
app.command("study-report")(study.study_report)
app.command()(bundles.ensemble)
app.command()(bundles.promote)
app.command()(bundles.rollback)

if __name__ == "__main__":
    app()

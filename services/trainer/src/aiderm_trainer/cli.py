"""``aiderm-train``: prepare, train, compare, ensemble, export, evaluate, recalibrate, promote, rollback (contract 4)."""

from __future__ import annotations

from typing import Annotated

import typer

from aiderm_trainer.commands import bundles, data, study, training
from aiderm_trainer.commands.quiet import native_messages_hidden, silence_libraries

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Trains melanoma classifiers and writes the bundles that the API serves."
)


@app.callback()
def options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the messages of TensorFlow, CUDA and others.")] = False,
) -> None:
    """Trains melanoma classifiers and writes the bundles that the API serves."""
    if not verbose:
        silence_libraries()  # the commands import TensorFlow only when they run
        context.with_resource(native_messages_hidden())


fetching = typer.Typer(no_args_is_help=True, help="Downloads images with labels from public archives.")

# In the order in which they are needed: it is the order of --help.
app.command()(data.prepare)
app.command("check-leaks")(data.check_leaks)
app.add_typer(fetching, name="fetch")
fetching.command()(data.isic)
app.command()(data.synthetic)
app.command()(training.architectures)
app.command()(training.train)
app.command()(training.blind_head)
app.command("fine-tune")(training.fine_tune)
app.command()(bundles.export)
app.command()(bundles.evaluate)
app.command()(bundles.recalibrate)
app.command("learning-curve")(bundles.learning_curve)
app.command()(bundles.quantise)
app.command()(study.compare)
app.command("study-report")(study.study_report)
app.command()(bundles.ensemble)
app.command()(bundles.papers)
app.command()(bundles.promote)
app.command()(bundles.rollback)

if __name__ == "__main__":
    app()

"""The command line ``aiderm-train``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from aiderm_trainer.commands import bundles, data, readers, study, training
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
fetching.command()(data.isic)

# In the order in which they are needed, which is the order of --help.
app.command()(data.prepare)
app.command()(data.check_leaks)
app.add_typer(fetching, name="fetch")
_commands: tuple[Callable[..., None], ...] = (
    *(data.synthetic, training.architectures, training.train, training.blind_head, training.fine_tune),
    *(training.average_weights, training.outline, training.quantise_run),
    *(bundles.export, bundles.evaluate, bundles.recalibrate, bundles.learning_curve, bundles.quantise),
    *(study.compare, study.study_report, bundles.ensemble, bundles.papers, study.second_photograph, study.lesion_change),
    readers.reader_study,
    *(bundles.promote, bundles.rollback),
)
for command in _commands:
    app.command()(command)

if __name__ == "__main__":
    app()

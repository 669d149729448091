"""Averages the weights of a fine-tuned run and those that its fine-tuning started from.

The mean is one network, which costs no more than either. It often combines what the initial network knew with the stability
that was learnt (Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from aiderm_trainer.architectures.trunk import inference
from aiderm_trainer.config import ConfigError
from aiderm_trainer.data.split import read_split
from aiderm_trainer.training import checkpoint, run_folder
from aiderm_trainer.training.fine_tune import Probe
from aiderm_trainer.training.starting_weights import take_over


def average_weights(tuned: Path, start: Path, kept: float, out: Path) -> dict[str, Any]:
    """Writes a run that ``export`` accepts like any other.

    Args:
        tuned: the fine-tuned run.
        start: run or bundle that it started from.
        kept: share of the start's weights in the mean, 0..1.
        out: folder to write.

    Returns:
        the record of the validation, see ``fine_tune.Probe``.

    Raises:
        ConfigError: ``out`` holds a run, or ``start`` holds another network.
    """
    if (out / run_folder.BEST).exists():
        raise ConfigError(f"{out} holds a run already. Choose another --out")
    config, labels, network = run_folder.load_run(tuned)
    variables = list(network.model.variables)
    learnt = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    take_over(start, network)
    for variable, value in zip(variables, learnt, strict=True):
        variable.assign(kept * keras.ops.convert_to_numpy(variable) + (1 - kept) * value)
    rows, root = read_split(tuned / run_folder.SPLIT), run_folder.read_data_root(tuned)
    validation = [row for row in rows if row.split == "validation"]
    found = {"epoch": 1, **Probe(validation, root, network.size, labels)(inference(network.model))}
    run_folder.write_inputs(out, config.model_copy(update={"kept": kept}), rows, root, labels)
    run_folder.write_pretrained(out, network)
    run_folder.write_history(out, [found], run_folder.read_seconds(tuned) or 0.0)
    checkpoint.save(out / run_folder.BEST, variables, found)
    return found

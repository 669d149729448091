"""Makes a run whose convolutions compute in 8-bit integers from a trained network, without training it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.quantised_fit import fit
from aiderm_trainer.architectures.trunk import inference
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint, run_folder
from aiderm_trainer.training.fine_tune import Probe
from aiderm_trainer.training.outline import decoder_of
from aiderm_trainer.training.starting_weights import take_over, take_over_decoder
from aiderm_trainer.training.training_inputs import parts_of

IMAGES: Final = 144  # number of images whose maps set the ranges; all maps of a layer are in memory at once


def quantise_run(config: TrainConfig, rows: Sequence[Row], root: Path, out: Path) -> dict[str, Any]:
    """Writes a run that ``export`` accepts like any other, with the outline decoder of ``config.start`` if it has one.

    Args:
        config: ``start`` is a bundle or a run; ``weights`` the pretrained ones that it was trained from.
        rows: of SPLIT.csv, all splits; train images set the ranges, validation rows measure the result.
        root: folder that the rows' paths are relative to.
        out: folder to write.

    Returns:
        the metrics of the validation, see ``fine_tune.Probe``, and those of the start as ``start_NAME``.

    Raises:
        ConfigError: ``out`` holds a run, a split is empty, ``start`` holds another network, or the backend is not TensorFlow.
    """
    if (out / run_folder.BEST).exists():
        raise ConfigError(f"{out} holds a run already. Choose another --out")
    if config.start is None:
        raise ConfigError("quantisation starts from a bundle or a run. Received: no start")
    parts, start = parts_of(config, rows), Path(config.start)
    original = build(config.model_copy(update={"quantised": False}), len(parts.labels))
    take_over(start, original)
    network = build(config.model_copy(update={"quantised": True}), len(parts.labels), load=False)
    fit(network.model, original.model, _of_every_domain(parts.train, root, network.size, config.seed))

    probe = Probe(parts.validation, root, network.size, parts.labels)
    before, after = (probe(inference(each.model)) for each in (original, network))
    record = {"epoch": 1, **after}
    run_folder.write_inputs(out, config.model_copy(update={"quantised": True}), rows, root, parts.labels)
    run_folder.write_history(out, [record], 0.0)
    decoder = decoder_of(network)
    if take_over_decoder(start, decoder):
        checkpoint.save(out / run_folder.OUTLINE, decoder.variables, {})
    checkpoint.save(out / run_folder.BEST, list(network.model.variables), record)
    return {**record, **{f"start_{name}": value for name, value in before.items()}}


def _of_every_domain(rows: Sequence[Row], root: Path, size: int, seed: int) -> NDArray[np.uint8]:
    """Images, uint8 ``[N, S, S, 3]``, about equally many from each domain."""
    rng = np.random.default_rng(seed)
    domain = np.array([row.domain or row.source for row in rows])
    places = {name: rng.permutation(np.flatnonzero(domain == name)) for name in np.unique(domain)}
    rank = np.concatenate([np.arange(len(each)) for each in places.values()])
    chosen = np.concatenate(list(places.values()))[np.argsort(rank, kind="stable")][:IMAGES]
    images = Images([rows[int(i)] for i in chosen], root, size)
    return np.stack([images[i] for i in range(len(images))])

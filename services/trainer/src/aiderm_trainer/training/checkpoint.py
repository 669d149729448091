"""Saves and restores the state of a run atomically: a kill at any moment loses at most the steps since the last checkpoint."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from aiderm_core.files import write_arrays
from aiderm_trainer.config import ConfigError


def save(path: Path, variables: Sequence[Any], progress: dict[str, Any]) -> None:
    """Writes the variables' values and a JSON-serialisable progress record, atomically."""
    values = {f"v{i:05d}": np.asarray(ops.convert_to_numpy(variable)) for i, variable in enumerate(variables)}
    write_arrays(path, values | {"progress": np.frombuffer(json.dumps(progress).encode(), np.uint8)})


def restore(path: Path, variables: Sequence[Any]) -> dict[str, Any]:
    """Assigns the saved values and returns the progress record.

    Raises:
        ConfigError: the file is missing or broken, or was written by another network.
    """
    try:
        # Opened here, so that it is closed even when numpy cannot read it.
        with path.open("rb") as file, np.load(file) as archive:
            values = [archive[f"v{i:05d}"] for i in range(len(archive.files) - 1)]
            progress: dict[str, Any] = json.loads(archive["progress"].tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"cannot read the checkpoint {path}: {error}") from error
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise ConfigError(f"{path} was written by another network or configuration: {len(values)} and {len(variables)} variables")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return progress

"""Runs the SavedModel's own signature with TensorFlow, on CPU or GPU: the reference runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aiderm_core.runtime.protocol import Hint, Outputs, Precision, RuntimeFailure, check_batch, joined, outputs_in

# Images per call: a graph that averages over orientations computes eight views of each, and memory grows with their number.
AT_ONCE: Final = 8


class TensorFlowRuntime:
    """Calls ``serving_default`` directly; ``model.predict`` would take 2-5 times as long."""

    name = "tensorflow"

    def __init__(self, bundle: Path, threads: int | None = None, precision: Precision = "f32") -> None:
        self.precision: str = precision
        if threads is not None:
            try:
                tf.config.threading.set_intra_op_parallelism_threads(threads)
            except RuntimeError as error:
                if tf.config.threading.get_intra_op_parallelism_threads() != threads:
                    raise RuntimeFailure(f"TensorFlow runs already with another number of threads: {error}") from error
        try:
            self._model = tf.saved_model.load(str(bundle))
            self._call = self._model.signatures["serving_default"]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise RuntimeFailure(f"TensorFlow cannot load {bundle}: {error}") from error
        self._outputs = outputs_in(self._call.structured_outputs)
        _, inputs = self._call.structured_input_signature
        self._input = next(iter(inputs))
        self._size: int | None = inputs[self._input].shape[1]

    def run(self, batch: NDArray[np.uint8], hint: Hint = "latency") -> Outputs:
        """Scores uint8 ``[N, S, S, 3]``, see ``Runtime.run``; TensorFlow decides itself how to use the cores."""
        check_batch(batch, self._size)
        answers = []
        for start in range(0, len(batch), AT_ONCE):
            outputs = self._call(**{self._input: tf.constant(batch[start : start + AT_ONCE])})
            answers.append({name: outputs[name].numpy() for name in self._outputs})
        return joined(answers)

"""Writes graphs whose outputs are controlled by the image's colour: red is malignancy, green the heatmap, blue novelty.

The result is committed, because importing TensorFlow and tracing takes longer than most tests that need a bundle.
Run `python tests/graphs/steerable.py` after a change here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIZE = 64
LABELS = {
    7: [
        ("mel", "Melanoma", True),
        ("bcc", "Basal cell carcinoma", True),
        ("akiec", "Actinic keratosis", True),
        ("nv", "Melanocytic naevus", False),
        ("bkl", "Benign keratosis", False),
        ("df", "Dermatofibroma", False),
        ("vasc", "Vascular lesion", False),
    ],
    2: [("malignant", "Malignant", True), ("benign", "Benign", False)],
}
FOLDER = Path(__file__).parent


def expected_outputs(red: float, blue: float, classes: int) -> tuple[list[float], float, float]:
    """The graph's class probabilities, malignancy and novelty for a plain-coloured image."""
    malignancy, novelty = red / 255, blue * 10
    malignant = [label[2] for label in LABELS[classes]]
    inside, outside = malignancy / sum(malignant), (1 - malignancy) / (classes - sum(malignant))
    return [inside if flag else outside for flag in malignant], malignancy, novelty


def write_graph(folder: Path, classes: int) -> None:
    """Writes a SavedModel with ``classes`` classes into ``folder``."""
    import tensorflow as tf

    class Steerable(tf.Module):
        def __init__(self, malignant: list[bool]) -> None:
            super().__init__()
            # A variable, so that the SavedModel has a variables folder as a trained one has.
            self.scale = tf.Variable(1 / 255, trainable=False, dtype=tf.float32)
            share = np.array(malignant, np.float32)
            self.inside, self.outside = share / share.sum(), (1 - share) / (1 - share).sum()

        @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            means = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2])
            malignancy = tf.clip_by_value(means[:, 0] * self.scale, 0.0, 1.0)
            green = tf.nn.avg_pool2d(tf.cast(image[..., 1:2], tf.float32) * self.scale, 8, 8, "VALID")[..., 0]
            return {
                "probability": malignancy[:, None] * self.inside + (1 - malignancy)[:, None] * self.outside,
                "malignancy": malignancy,
                "heatmap": green * malignancy[:, None, None],
                "novelty": means[:, 2] * 10.0,
            }

    module = Steerable([label[2] for label in LABELS[classes]])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


if __name__ == "__main__":
    for count in LABELS:
        write_graph(FOLDER / f"steerable-{count}", count)

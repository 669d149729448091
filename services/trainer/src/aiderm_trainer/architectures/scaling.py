"""Scales pixels inside the graph as a pretrained network expects them."""

from __future__ import annotations

from typing import Any

import keras

from aiderm_trainer.architectures.backbones import Scaling

# ImageNet's mean and standard deviation of RGB in 0..1 (for PyTorch's models), and mean of BGR in 0..255 (for Caffe's).
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable("aiderm")
class ToBGR(keras.layers.Layer):
    """``[..., RGB]`` -> ``[..., BGR]``."""

    def call(self, image: Any) -> Any:
        """Reverses the channels."""
        return keras.ops.take(image, [2, 1, 0], axis=-1)


def scale(image: Any, how: Scaling) -> Any:
    """Scales pixels 0..255, ``[N, S, S, 3]`` RGB.

    Args:
        image: a Keras tensor, uint8 or float.
        how: as the network was trained, see ``backbones.Scaling``.
    """
    if how == "bytes":
        return image
    if how == "signed":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    if how == "lite":
        return keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(image)
    if how == "caffe":
        return keras.layers.Rescaling(1.0, offset=[-m for m in CAFFE_MEAN], name="scale")(ToBGR(name="to_bgr")(image))
    # EfficientNet divides by 255 itself, then normalises with weights for which ImageNet's file holds the deviation in place of
    # the variance. Those weights stay at 0 and 1, and this layer does all of the normalisation.
    unit = 255.0 if how == "torch_bytes" else 1.0
    factors = [unit / (255.0 * d) for d in DEVIATION]
    return keras.layers.Rescaling(factors, offset=[-unit * m / d for m, d in zip(MEAN, DEVIATION, strict=True)], name="scale")(
        image
    )

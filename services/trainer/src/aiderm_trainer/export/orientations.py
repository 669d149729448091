"""Handles the eight orientations of a square image inside the graph, so that no answer depends on how the camera was turned.

The rotations by 90 degrees and their mirror images form a group (Cohen and Welling, "Group Equivariant Convolutional
Networks", ICML 2016). A graph can average over the whole group, or turn each image into one orientation that the image
itself determines, at an eighth of the work (Kaba et al., "Equivariance with Learned Canonicalization Functions", ICML 2023;
here the function is not learned). ``Averaged`` makes its views by transposing and by slicing backwards, which every runtime
supports. ``Upright`` makes its one view by a single gather from a table of the eight orders, which takes OpenVINO half as long
as three choices between slices.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

VIEWS: Final = 8
# Half an image of up to 1,024 pixels per side sums to less than 2 ** 24, which is exact in float32 in any order of summation.
_LEVELS: Final = 64


class Seen(Protocol):
    """A batch of N images in the views that the networks see, V views per image."""

    images: Any  # [V N, S, S, C]: the first view of all images, then the second, and so on

    def mean(self, values: Any) -> Any:
        """Mean over an image's views: ``[V N, ...]`` -> ``[N, ...]``."""

    def mean_turned_back(self, maps: Any) -> Any:
        """Mean of the views' maps, each turned back to the given orientation: ``[V N, h, h, C]`` -> ``[N, h, h, C]``."""

    def repeat(self, values: Any) -> Any:
        """Repeats the values for each view: ``[N, F]`` -> ``[V N, F]``."""


class AsGiven:
    """One view of each image, as it was given. Answers depend on how the camera was turned.

    Args:
        images: ``[N, S, S, C]``.
    """

    def __init__(self, images: Any) -> None:
        self.images = images

    def mean(self, values: Any) -> Any:
        """See ``Seen``."""
        return values

    def mean_turned_back(self, maps: Any) -> Any:
        """See ``Seen``."""
        return maps

    def repeat(self, values: Any) -> Any:
        """See ``Seen``."""
        return values


class Upright(AsGiven):
    """One view of each image, with the left half darker than the right and, by a smaller difference, the upper than the lower.

    Every turned or mirrored copy of an image becomes the same view, bit for bit, unless two halves or the two differences are
    equal.

    Args:
        images: uint8 ``[N, S, S, C]``, S at most 1,024.
    """

    def __init__(self, images: Any) -> None:
        size, channels = images.shape[1], images.shape[3]
        levels = tf.floor(tf.cast(images, tf.float32) * (_LEVELS / 256)) - _LEVELS / 2
        # Sums are products with constants, for which OpenVINO has vector code; it has none for selecting a channel.
        halves = _halves(size)
        green = np.eye(channels, dtype=np.float32)[1]  # the channel closest to brightness
        weights = np.stack([np.kron(halves, green), np.kron(np.ones_like(halves), green)], axis=1)
        rows = tf.reshape(levels, (-1, size, size * channels)) @ weights  # [N, S, 2]: each row's difference and sum
        across, down = tf.reduce_sum(rows[..., 0], axis=1), tf.reduce_sum(rows[..., 1] * halves, axis=1)
        wrong = (across < 0, down < 0, abs(across) < abs(down))
        self._order = sum(tf.cast(each, tf.int32) * 2**bit for bit, each in enumerate(wrong))
        super().__init__(_reordered(images, _orders(size), self._order))

    def mean_turned_back(self, maps: Any) -> Any:
        """See ``Seen``."""
        return _reordered(maps, np.argsort(_orders(maps.shape[1])).astype(np.int32), self._order)


class Averaged:
    """All eight views of each image.

    Args:
        images: ``[N, S, S, C]``.
    """

    def __init__(self, images: Any) -> None:
        swapped = _transposed(images)
        self.images = tf.concat([_flipped(each, how) for each in (images, swapped) for how in range(4)], axis=0)

    def mean(self, values: Any) -> Any:
        """See ``Seen``."""
        return tf.reduce_mean(_by_view(values), axis=0)

    def mean_turned_back(self, maps: Any) -> Any:
        """See ``Seen``."""
        by_view = _by_view(maps)
        straight = [_flipped(by_view[how], how) for how in range(4)]
        turned = [_transposed(_flipped(by_view[4 + how], how)) for how in range(4)]
        return sum(straight[1:] + turned, start=straight[0]) / float(VIEWS)

    def repeat(self, values: Any) -> Any:
        """See ``Seen``."""
        return tf.tile(values, (VIEWS, 1))


def _halves(size: int) -> NDArray[np.float32]:
    """Weights ``[S]``: -1 in the first half, 1 in the second, and 0 for a pixel in the middle."""
    return np.sign(np.arange(size) - (size - 1) / 2).astype(np.float32)


def _orders(size: int) -> NDArray[np.int32]:
    """Source positions of a view's pixels, ``[8, S S]``: mirrored across (bit 0), down (bit 1), then transposed (bit 2)."""
    places = np.arange(size * size, dtype=np.int32).reshape(size, size)
    views = [places[:: -1 if order & 2 else 1, :: -1 if order & 1 else 1] for order in range(VIEWS)]
    return np.stack([np.ravel(view.T if order & 4 else view) for order, view in enumerate(views)])


def _reordered(images: Any, orders: NDArray[np.int32], order: Any) -> Any:
    """Rearranges the pixels of each image ``[N, S, S, C]`` by its entry of ``order``, ``[N]``."""
    # One gather from all images at once: with batch_dims=1, OpenVINO 2026.4 gathers wrong pixels from one image, or crashes.
    count, places, channels = tf.shape(images)[0], orders.shape[1], images.shape[3]
    pixels = tf.gather(tf.constant(orders), order) + tf.range(count)[:, None] * places
    return tf.reshape(tf.gather(tf.reshape(images, (-1, channels)), pixels), tf.shape(images))


def _by_view(values: Any) -> Any:
    return tf.reshape(values, (VIEWS, -1, *values.shape[1:]))


def _transposed(image: Any) -> Any:
    return tf.transpose(image, (0, 2, 1, 3))


def _flipped(image: Any, how: int) -> Any:
    """Mirrors ``[N, h, w, C]`` top to bottom (1), left to right (2) or both (3); doing it twice restores the image."""
    rows, columns = (-1 if how & 1 else 1), (-1 if how & 2 else 1)
    return image[:, ::rows, ::columns]

"""The eight orientations of a square image inside the graph: an answer averaged over them does not depend on the camera's turn.

The rotations by 90 degrees and their mirror images form a group, so the set of views, and with it every mean over the views,
is the same whichever of them the graph is given (Cohen and Welling, "Group Equivariant Convolutional Networks", ICML 2016, for
the group). Views are made by transposing and by slicing backwards, which every runtime can do.
"""

from __future__ import annotations

from typing import Any, Final

import tensorflow as tf

VIEWS: Final = 8


def views(image: Any) -> Any:
    """All views of each image: ``[N, S, S, C]`` -> ``[8 N, S, S, C]``, the first view of all images first."""
    swapped = tf.transpose(image, (0, 2, 1, 3))
    return tf.concat([_flipped(each, how) for each in (image, swapped) for how in range(4)], axis=0)


def mean(values: Any) -> Any:
    """Mean over the views: ``[8 N, ...]`` in the order of ``views`` -> ``[N, ...]``."""
    return tf.reduce_mean(_by_view(values), axis=0)


def mean_turned_back(maps: Any) -> Any:
    """Mean of the views' maps, each turned back first: ``[8 N, h, h, C]`` in the order of ``views`` -> ``[N, h, h, C]``."""
    by_view = _by_view(maps)
    straight = [_flipped(by_view[how], how) for how in range(4)]
    turned = [tf.transpose(_flipped(by_view[4 + how], how), (0, 2, 1, 3)) for how in range(4)]
    return sum(straight[1:] + turned, start=straight[0]) / float(VIEWS)


def repeat(values: Any) -> Any:
    """The same for each view: ``[N, F]`` -> ``[8 N, F]`` in the order of ``views``."""
    return tf.tile(values, (VIEWS, 1))


def _by_view(values: Any) -> Any:
    return tf.reshape(values, (VIEWS, -1, *values.shape[1:]))


def _flipped(image: Any, how: int) -> Any:
    """``[N, h, w, C]`` mirrored top to bottom (1), left to right (2) or both (3); each undoes itself."""
    rows, columns = (-1 if how & 1 else 1), (-1 if how & 2 else 1)
    return image[:, ::rows, ::columns]

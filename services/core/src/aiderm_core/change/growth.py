"""Measures how much the area of a lesion has changed, from the movement of its border between two aligned images.

A network's outlines differ by several percent even between two photographs of the same lesion. The movement of what the images
show is far more precise: the dense optical flow between them (DIS: Kroeger et al., ECCV 2016) carries the outline of one to the
other, and the areas inside the line before and after are compared.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.change.registration import SIDE, Mask, Structure, levels


def log_growth(earlier: Structure, later: Structure, outlines: tuple[Mask, Mask]) -> float:
    """The logarithm of the later area over the earlier one.

    Args:
        earlier: structure of the earlier image.
        later: structure of the later image in the frame of the earlier one.
        outlines: masks of the lesion in each, in the same frame.

    Returns:
        The mean of two estimates: the earlier outline carried forward, and the later one carried back.
    """
    first, second = levels(earlier), levels(later)
    forward = _log_ratio(outlines[0], _movement(first, second))
    back = _log_ratio(outlines[1], _movement(second, first))
    return (forward - back) / 2


def _movement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The movement of each pixel of the first image to the second, ``[SIDE, SIDE, 2]``.

    There are two passes, because the flow is smoothed and underestimates large movements: the second measures what is left over.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # one per call: it holds buffers, calls may be parallel
    flow.setFinestScale(0)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    rough = np.asarray(cv2.GaussianBlur(flow.calc(first, second, None), (0, 0), 1.5), np.float32)
    rest = flow.calc(first, _sampled(second, x + rough[..., 0], y + rough[..., 1]), None)
    return np.asarray(rest + _sampled(rough, x + rest[..., 0], y + rest[..., 1]), np.float32)


def _sampled(drawn: NDArray[Any], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[Any]:
    return np.asarray(cv2.remap(drawn, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def outer_line(mask: Mask) -> NDArray[np.float32]:
    """The line around a mask of one piece, ``[K, 2]``, x and y in pixels."""
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(max(lines, key=len)[:, 0], np.float32)


def _log_ratio(mask: Mask, flow: NDArray[np.float32]) -> float:
    line = outer_line(mask)
    moved = cv2.remap(flow, line[None, :, 0], line[None, :, 1], cv2.INTER_LINEAR)[0]
    return float(np.log(max(cv2.contourArea(line + moved), 1.0) / max(cv2.contourArea(line), 1.0)))

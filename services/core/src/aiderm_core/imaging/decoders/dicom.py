"""Decodes DICOM's first frame: JPEG by libjpeg-turbo, JPEG 2000 by Pillow's OpenJPEG, RLE by Pillow's equivalent PackBits."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, Jpeg2KImagePlugin

from aiderm_core.imaging.colour import to_srgb
from aiderm_core.imaging.decoders import jpeg
from aiderm_core.imaging.decoders.pillow import refusing
from aiderm_core.imaging.errors import undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers import dicom as d

_ADOBE, _JFIF = b"Adobe", b"JFIF\0"


def decode(data: bytes, header: d.DicomHeader, scale: int, notes: list[str]) -> Pixels:
    """Decodes the first frame; a JPEG at 1/``scale`` of each side.

    Raises:
        ImageError: truncated or undecodable.
    """
    if header.more_frames:
        notes.append("first_frame")
    with refusing(data, "dicom"):
        frame = d.frame_of(data, header)
        match header.coding:
            case d.JPEG:
                samples = jpeg.samples_of(_with_colours(frame, header), header.width, header.height, "RGB", scale, "dicom")
            case d.JPEG_2000:
                with Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(frame)) as image:
                    image.load()
                    if image.mode != "RGB":
                        raise undecodable(data, "dicom")
                    samples = _rgb(np.array(image), header.colours)
            case _:
                samples = _rgb(_stored(data, frame, header), header.colours)
        return to_srgb(np.ascontiguousarray(samples), "RGB", header.profile, notes)


def _with_colours(stream: bytes, header: d.DicomHeader) -> bytes:
    """The JPEG stream with its colours declared: without a JFIF or Adobe marker, one is added from the DICOM header."""
    if header.jpeg is None or header.jpeg.adobe or _JFIF in stream[:20]:
        return stream
    return b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([header.colours != d.RGB]) + stream[2:]


def _stored(data: bytes, frame: bytes, header: d.DicomHeader) -> NDArray[np.uint8]:
    """Samples ``[H, W, 3]`` of data that are uncompressed or RLE-compressed."""
    width, height = header.width, header.height
    if header.coding == d.RLE:
        planes = _segments(frame, header)
        if header.colours == d.PALETTE:
            return _coloured(data, planes[0].reshape(height, width), header)
        return np.stack([plane.reshape(height, width) for plane in planes], -1)
    samples = np.frombuffer(frame, header.order + "u2" if header.bits == 16 else "u1")
    if header.swapped:
        samples = samples.reshape(-1, 2)[:, ::-1].reshape(-1)
    samples = samples[: width * height * (2 if header.colours == d.YBR_422 else header.channels)]
    if header.colours == d.PALETTE:
        return _coloured(data, samples.reshape(height, width), header)
    if header.colours == d.YBR_422:  # two luminances, then the chroma that they share
        pairs = samples.reshape(height, width // 2, 4)
        return np.stack([pairs[..., :2].reshape(height, width), *(pairs[..., at].repeat(2, 1) for at in (2, 3))], -1)
    if header.planar:
        return np.moveaxis(samples.reshape(3, height, width), 0, -1)
    return samples.reshape(height, width, 3).copy()


def _segments(frame: bytes, header: d.DicomHeader) -> list[NDArray[np.uint8]]:
    """The planes of an RLE frame (PS3.5, annex G), each decoded to exactly the number of bytes that it must have."""
    offsets = struct.unpack_from(f"<{header.channels}I", frame, 4)
    ends = (*offsets[1:], len(frame))
    return [
        np.frombuffer(
            Image.frombytes("L", (header.width * header.height, 1), frame[start:end], "packbits", "L").tobytes(), np.uint8
        )
        for start, end in zip(offsets, ends, strict=True)
    ]


def _coloured(data: bytes, indices: NDArray[np.uint8], header: d.DicomHeader) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    everything = np.arange(1 << header.bits, dtype=indices.dtype)
    table = apply_color_lut(everything, d.palette_of(data))
    if table.dtype == np.uint16:
        table = table >> 8
    return np.asarray(table.astype(np.uint8)[indices])


def _rgb(samples: NDArray[np.uint8], colours: str) -> NDArray[np.uint8]:
    if colours not in (d.YBR, d.YBR_422):
        return samples
    # The same matrix as JPEG's (ITU-R BT.601 at full range); OpenCV expects Cr before Cb.
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(samples[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB), np.uint8)

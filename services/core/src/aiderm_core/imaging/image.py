"""Defines a decoded image, and the information that an answer gives about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiderm_core.imaging.geometry import Pixels


@dataclass(frozen=True)
class ImageInfo:
    """The information that an answer gives about an image.

    Attributes:
        format: jpeg, png, webp, bmp, tiff, gif or dicom.
        width: width of the full-size upright image.
        height: height of the full-size upright image.
        notes: codes for what decoding did: ``first_frame``, ``oriented``, ``alpha_flattened``, ``reduced_to_8_bit``,
            ``icc_converted``, ``icc_ignored``, ``cmyk_converted``.
        spacing: millimetres between the rows and between the columns of the full-size upright image, if the file states them.
    """

    format: str
    width: int
    height: int
    notes: tuple[str, ...]
    spacing: tuple[float, float] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class DecodedImage(ImageInfo):
    """An upright image.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB in sRGB; at full size, or at a half, a quarter or an eighth of it.
    """

    pixels: Pixels

    @property
    def info(self) -> ImageInfo:
        """The same information without the pixels."""
        return ImageInfo(self.format, self.width, self.height, self.notes, spacing=self.spacing)

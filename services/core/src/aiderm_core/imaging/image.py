"""A decoded image, and what an answer says of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiderm_core.imaging.geometry import Pixels


@dataclass(frozen=True)
class ImageInfo:
    """What an answer says of an image.

    Attributes:
        format: jpeg, png, webp, bmp, tiff, gif or dicom.
        width: of the upright image in full.
        height: of the upright image in full.
        notes: codes of what was done to decode it: ``first_frame``, ``oriented``, ``alpha_flattened``, ``reduced_to_8_bit``,
            ``icc_converted``, ``icc_ignored``, ``cmyk_converted``.
        spacing: millimetres between the rows and between the columns of the upright image in full, where the file says so.
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
        pixels: uint8 ``[H, W, 3]``, RGB in sRGB; all of them, or a half, a quarter or an eighth each way.
    """

    pixels: Pixels

    @property
    def info(self) -> ImageInfo:
        """The same without the pixels."""
        return ImageInfo(self.format, self.width, self.height, self.notes, spacing=self.spacing)

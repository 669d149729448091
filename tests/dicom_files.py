"""Makes DICOM photographs of an invented patient in every supported encoding and colour space, and hostile ones."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.native import _encode_frame
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"  # VL Photographic Image Storage
DERMOSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.7"  # Dermoscopic Photography Image Storage (Supplement 221)
SECRETS = {
    "PatientName": "Zwetschkenbaum^Ottokar",
    "PatientID": "PID-7741-XQ",
    "PatientBirthDate": "19470813",
    "AccessionNumber": "ACC-90210-QZ",
    "ReferringPhysicianName": "Quackenbusch^Hildegund",
    "StudyID": "STUDY-5512",
}
"""Values that no log, error or JSON response may contain."""
SPACING = [0.025, 0.025]


def sample(width: int = 150, height: int = 120) -> np.ndarray:
    """Smooth colours: uint8 ``[H, W, 3]``."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def photograph(
    pixels: bytes,
    width: int,
    height: int,
    *,
    syntax: str = ExplicitVRLittleEndian,
    colours: str = "RGB",
    name: int = 0,
    **changes: Any,
) -> bytes:
    """A file with the pixel data ``pixels``, encapsulated or not; ``changes`` sets attributes by keyword; None removes one."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID = PHOTOGRAPH
    found.SOPInstanceUID, found.StudyInstanceUID, found.SeriesInstanceUID = (f"1.2.826.0.1.{name + 1}.{end}" for end in (3, 1, 2))
    for keyword, value in SECRETS.items():
        setattr(found, keyword, value)
    found.PatientSex, found.Modality, found.StudyDate, found.StudyTime = "O", "XC", "20260301", "093000"
    found.ContentDate, found.ContentTime = "20260301", "093000"
    found.Laterality = ""
    found.Manufacturer, found.SeriesNumber, found.InstanceNumber = "Tests", 1, 1
    found.ImageType, found.PatientOrientation = ["ORIGINAL", "PRIMARY"], ["L", "F"]
    found.AcquisitionContextSequence = []
    found.LossyImageCompression = "01" if syntax == JPEGBaseline8Bit else "00"
    found.Rows, found.Columns, found.PhotometricInterpretation = height, width, colours
    found.SamplesPerPixel = 1 if colours.startswith(("PALETTE", "MONO")) else 3
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation = 7, 0
    if found.SamplesPerPixel == 3:
        found.PlanarConfiguration = 0
    found.PixelSpacing = SPACING
    for keyword, value in changes.items():
        if value is None:
            delattr(found, keyword)
        else:
            setattr(found, keyword, value)
    found.PixelData = pixels + bytes(len(pixels) % 2)
    native = syntax in (ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    found["PixelData"].VR = "OB" if syntax != ImplicitVRLittleEndian else "OW"
    found["PixelData"].is_undefined_length = not native
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = found.SOPClassUID, found.SOPInstanceUID
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(buffer, found, enforce_file_format=True)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


def jpeg_2000(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=True, **options)
    return buffer.getvalue()


def run_lengths(pixels: np.ndarray) -> bytes:
    """Encodes uint8 ``[H, W]`` or ``[H, W, 3]`` as a frame of DICOM's RLE (PS3.5, annex G)."""
    from pydicom.pixels.encoders.base import EncodeRunner

    runner = EncodeRunner(RLELossless)
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    runner.set_options(
        rows=height, columns=width, samples_per_pixel=channels, number_of_frames=1, bits_allocated=8, bits_stored=8,
        pixel_representation=0, photometric_interpretation="RGB" if channels == 3 else "PALETTE COLOR",
        **({"planar_configuration": 0} if channels == 3 else {}),
    )  # fmt: skip
    return bytes(_encode_frame(pixels.tobytes(), runner))


def ybr(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("YCbCr"))


def ybr_422(pixels: np.ndarray) -> bytes:
    found = ybr(pixels)
    shared = found[:, ::2, 1:].astype(np.uint16) + found[:, 1::2, 1:]
    return np.dstack([found[:, ::2, :1], found[:, 1::2, :1], (shared // 2).astype(np.uint8)]).tobytes()


def palette(bits: int) -> dict[str, Any]:
    """The attributes of a palette of 256 colours, of 8 or 16 bits each."""
    found: dict[str, Any] = {}
    for number, colour in enumerate(("Red", "Green", "Blue")):
        table = ((np.arange(256) * (number + 3)) % 256).astype(np.uint8)
        found[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        found[f"{colour}PaletteColorLookupTableData"] = (table if bits == 8 else table.astype("<u2") * 257).tobytes()
    return found


def indices(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., 0])


def coloured(pixels: np.ndarray) -> np.ndarray:
    """The colours that the palette gives for the indices of ``pixels``."""
    return np.stack([(indices(pixels).astype(int) * (number + 3) % 256).astype(np.uint8) for number in range(3)], -1)


def swapped(data: bytes) -> bytes:
    return np.frombuffer(data, "<u2").byteswap().tobytes()


def encapsulated(*frames: bytes, syntax: str, pieces: int = 1, table: bool = True, **options: Any) -> Callable[..., bytes]:
    body = encapsulate(list(frames), fragments_per_frame=pieces, has_bot=table)
    return lambda width, height: photograph(body, width, height, syntax=syntax, **options)


def kinds(pixels: np.ndarray) -> dict[str, bytes]:
    """``pixels`` in every supported encoding that loses no more than rounding, except JPEG."""
    height, width = pixels.shape[:2]
    whole, turned = pixels.tobytes(), np.ascontiguousarray(pixels[::-1])

    def file(body: bytes, **options: Any) -> bytes:
        return photograph(body, width, height, **options)

    def parts(*frames: bytes, **options: Any) -> bytes:
        return encapsulated(*frames, **options)(width, height)

    lossless, rle = {"syntax": JPEG2000Lossless}, {"syntax": RLELossless}
    grey = indices(pixels)
    return {
        "explicit": file(whole),
        "implicit": file(whole, syntax=ImplicitVRLittleEndian),
        "big-endian": file(whole, syntax=ExplicitVRBigEndian),
        "dermoscopy": file(whole, SOPClassUID=DERMOSCOPY),
        "planes": file(pixels.transpose(2, 0, 1).tobytes(), PlanarConfiguration=1),
        "frames": file(whole + turned.tobytes(), NumberOfFrames=2),
        "ybr": file(ybr(pixels).tobytes(), colours="YBR_FULL"),
        "ybr 4:2:2": file(ybr_422(pixels), colours="YBR_FULL_422"),
        "palette": file(grey.tobytes(), colours="PALETTE COLOR", **palette(8)),
        "palette of 16 bits": file(grey.tobytes(), colours="PALETTE COLOR", **palette(16)),
        "palette with deep indices": file(
            grey.astype("<u2").tobytes(), colours="PALETTE COLOR", **palette(16), BitsAllocated=16, BitsStored=16, HighBit=15
        ),
        "jpeg 2000": parts(jpeg_2000(pixels, mct=0), **lossless),
        "jpeg 2000 rct": parts(jpeg_2000(pixels, mct=1), **lossless, colours="YBR_RCT"),
        "jpeg 2000 ybr": parts(jpeg_2000(ybr(pixels), mct=0), **lossless, colours="YBR_FULL"),
        "jpeg 2000 tiles": parts(jpeg_2000(pixels, tile_size=(64, 64)), **lossless),
        "jpeg 2000 frames": parts(jpeg_2000(pixels), jpeg_2000(turned), **lossless, NumberOfFrames=2, pieces=2),
        "rle": parts(run_lengths(pixels), **rle),
        "rle ybr": parts(run_lengths(ybr(pixels)), **rle, colours="YBR_FULL"),
        "rle palette": parts(run_lengths(grey), **rle, colours="PALETTE COLOR", **palette(8)),
        "rle frames": parts(run_lengths(pixels), run_lengths(turned), **rle, NumberOfFrames=2, table=False),
    }


def jpegs(pixels: np.ndarray) -> dict[str, bytes]:
    """``pixels`` as JPEG, with each way in which files declare the colour space."""
    height, width = pixels.shape[:2]
    base = {"syntax": JPEGBaseline8Bit}
    plain = jpeg(pixels)
    bare = b"\xff\xd8" + plain[2 + 18 :]  # without the JFIF marker, which implies YCbCr
    unchanged = jpeg(pixels, keep_rgb=True)
    variants: dict[str, Callable[..., bytes]] = {
        "jpeg": encapsulated(plain, **base, colours="YBR_FULL_422"),
        "jpeg in pieces": encapsulated(plain, **base, pieces=3, colours="YBR_FULL"),
        "jpeg without markers": encapsulated(bare, **base, colours="YBR_FULL_422"),
        "jpeg rgb": encapsulated(unchanged, **base),
        "jpeg frames": encapsulated(plain, jpeg(pixels[::-1].copy()), **base, colours="YBR_FULL", NumberOfFrames=2, table=False),
        "jpeg frames in pieces": encapsulated(
            plain, jpeg(pixels[::-1].copy()), **base, colours="YBR_FULL", NumberOfFrames=2, table=False, pieces=2
        ),
    }
    return {name: make(width, height) for name, make in variants.items()}


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """A data element in explicit little-endian form."""
    size = len(value) if length is None else length
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr) + (struct.pack("<HI", 0, size) if long else struct.pack("<H", size))
    return head + value


def with_elements(body: bytes) -> bytes:
    """A small photograph with further elements between its own."""
    whole = photograph(sample(104, 104).tobytes(), 104, 104)
    at = whole.index(element(0x00280002, b"US", b"\3\0"))
    return whole[:at] + body + whole[at:]


ITEM, ITEM_END, END = (
    struct.pack("<HHI", 0xFFFE, number, size) for number, size in ((0xE000, 0xFFFFFFFF), (0xE00D, 0), (0xE0DD, 0))
)
SEQUENCE = element(0x00220001, b"SQ", b"", 0xFFFFFFFF)


def nested(depth: int) -> bytes:
    return with_elements((SEQUENCE + ITEM) * depth + (ITEM_END + END) * depth)


def deflated() -> bytes:
    """A deflated data set with 200 megabytes of zeros."""
    whole = photograph(sample(104, 104).tobytes(), 104, 104)
    at = whole.index(element(0x00080005, b"CS", b"ISO_IR 192"))
    head = whole[:at].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    head = head.replace(element(0x00020010, b"UI", b"1.2.840.10008.1.2.1.99", 20)[:8], element(0x00020010, b"UI", bytes(22))[:8])
    squeeze = zlib.compressobj(6, wbits=-15)
    return head + b"".join(squeeze.compress(bytes(1_000_000)) for _ in range(200)) + squeeze.flush()


def codestream(width: int, height: int, **changes: bytes) -> bytes:
    """A DICOM file whose JPEG 2000 data declare ``width`` x ``height`` but contain almost nothing."""
    frame = bytearray(jpeg_2000(sample(104, 104)))
    struct.pack_into(">II", frame, 8, width, height)
    struct.pack_into(">II", frame, 24, width, height)
    return encapsulated(bytes(frame), syntax=JPEG2000Lossless, **changes)(width, height)


def of_tiles() -> bytes:
    frame = bytearray(jpeg_2000(sample(104, 104)))
    struct.pack_into(">II", frame, 8, 7000, 7000)
    struct.pack_into(">II", frame, 24, 32, 32)
    return encapsulated(bytes(frame), syntax=JPEG2000Lossless)(7000, 7000)


def of_run_lengths(side: int, megabytes: int) -> bytes:
    """A file whose RLE data decompress to 64 times their size, far more than its pixels need."""
    body = b"\x81\x07" * (megabytes * 500_000)
    frame = struct.pack("<16I", 3, 64, 64, 64, *[0] * 12) + body
    return encapsulated(frame, syntax=RLELossless)(side, side)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "dicom deflated": deflated,
    "dicom nested": lambda: nested(200_000),
    "dicom of elements": lambda: with_elements(element(0x00220002, b"CS", b"") * 1_000_000),
    "dicom of items": lambda: with_elements(SEQUENCE + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1_000_000 + END),
    "dicom of run lengths": lambda: of_run_lengths(104, 18),
    "dicom of 49 MP of run lengths without data": lambda: of_run_lengths(7000, 1),
    "dicom of 49 MP of jpeg 2000 without data": lambda: codestream(7000, 7000),
    "dicom of jpeg 2000 tiles": of_tiles,
    "dicom of fragments": lambda: encapsulated(*[b"\0\0"] * 100_000, syntax=RLELossless, NumberOfFrames=100_000, table=False)(
        104, 104
    ),
    "dicom of frames": lambda: photograph(sample(104, 104).tobytes(), 104, 104, NumberOfFrames=2**31 - 1),
    "dicom of a long palette": lambda: photograph(
        indices(sample(104, 104)).tobytes(), 104, 104, colours="PALETTE COLOR", **(palette(8) | {
            "RedPaletteColorLookupTableDescriptor": [0, 65535, 16], "GreenPaletteColorLookupTableData": bytes(5_000_000)})
    ),
    "dicom of a long number": lambda: photograph(sample(104, 104).tobytes(), 104, 104, NumberOfFrames="1" * 12),
}  # fmt: skip
"""Small photographs whose other parts claim, contain or decompress to a lot of data, and large ones without data."""

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]


@cache
def corpus() -> list[bytes]:
    pixels = sample(60, 48)
    return [*kinds(pixels).values(), *jpegs(pixels).values(), *(nested(depth) for depth in (3, 12))]


def mutated(seed: int) -> bytes:
    """A file of the corpus with forged lengths, tags, sequences or ends."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(corpus()))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        head = min(len(data), 1500)
        at = rng.randrange(132, head) if rng.random() < 0.8 and head > 132 else rng.randrange(len(data) or 1)
        match rng.randrange(8):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            case 2:
                body = struct.pack("<I", rng.choice([*NUMBERS, rng.randrange(2**32), len(data)]))
                data[at : at + 4] = body
            case 3:
                data[at : at + 2] = struct.pack("<H", rng.choice(NUMBERS) & 0xFFFF)
            case 4:
                data[at:at] = rng.choice(
                    [SEQUENCE + ITEM, ITEM, ITEM_END, END, (SEQUENCE + ITEM) * rng.randrange(30), rng.randbytes(9)]
                )
            case 5:
                del data[at : at + rng.choice([1, 2, 4, 8, 100])]
            case 6:
                other = rng.choice(corpus())
                start = rng.randrange(len(other))
                data[at : at + 100] = other[start : start + rng.choice([8, 100, 2000])]
            case _:
                del data[max(at, 140) :]
        if len(data) < 140:
            break
    return bytes(data)

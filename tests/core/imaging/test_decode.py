"""Every file decodes to upright sRGB pixels or raises an ImageError with the right code."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.geometry import Region, assessed_region, crop, to_model_input
from aiderm_core.imaging.image import DecodedImage
from aiderm_core.imaging.limits import Limits

HEIGHT, WIDTH = 120, 150
# Four plain quarters of different colours: lossy formats preserve them, and they distinguish every orientation.
COLOURS = np.array([[[220, 40, 30], [40, 200, 60]], [[30, 60, 210], [230, 200, 170]]], np.uint8)
PICTURE = COLOURS.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1)
CODES = {"empty_file", "unsupported_type", "undecodable", "truncated", "too_small", "too_many_pixels", "too_large"}


def encode(image: Image.Image | np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


def refusal(data: bytes, limits: Limits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(data, limits or Limits())
    return caught.value


def assert_quarters(pixels: np.ndarray, expected: np.ndarray = COLOURS, tolerance: int = 0) -> None:
    """Compares the centre of each quarter with ``expected`` [2, 2, 3]."""
    height, width = pixels.shape[:2]
    middles = pixels[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2]
    assert np.abs(middles.astype(int) - expected.astype(int)).max() <= tolerance, middles


LUMA = np.asarray(Image.fromarray(COLOURS).convert("L"))[..., None].repeat(3, 2)
RAMP16 = np.linspace(0, 65535, HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
RAMP8 = (RAMP16 >> 8).astype(np.uint8)[..., None].repeat(3, 2)


def tiff_by_hand(samples: np.ndarray, bits: int, photometric: int = 1, extra: tuple[tuple[int, int], ...] = ()) -> bytes:
    """A little-endian greyscale TIFF whose directory precedes the pixels."""
    tags = {256: samples.shape[1], 257: samples.shape[0], 258: bits, 259: 1, 262: photometric, 277: 1, 278: samples.shape[0]}
    tags |= {273: 0, 279: samples.nbytes, **dict(extra)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + samples.tobytes()


# Common formats


@pytest.mark.parametrize(
    ("data", "form", "tolerance"),
    [
        (encode(PICTURE, "JPEG", quality=95), "jpeg", 4),
        (encode(PICTURE, "JPEG", quality=95, progressive=True), "jpeg", 4),
        (encode(PICTURE, "JPEG", quality=95, restart_marker_rows=1), "jpeg", 4),
        (encode(PICTURE, "PNG"), "png", 0),
        (encode(PICTURE, "WEBP", quality=95), "webp", 6),
        (encode(PICTURE, "WEBP", lossless=True), "webp", 0),
        (encode(PICTURE, "BMP"), "bmp", 0),
        (encode(PICTURE, "TIFF"), "tiff", 0),
        (encode(PICTURE, "TIFF", compression="tiff_lzw"), "tiff", 0),
        (encode(PICTURE, "TIFF", compression="jpeg", quality=95), "tiff", 6),
        (encode(PICTURE, "TIFF", big_tiff=True), "tiff", 0),
        (encode(PICTURE, "GIF"), "gif", 0),
    ],
)
def test_plain_picture_keeps_its_pixels(data: bytes, form: str, tolerance: int) -> None:
    decoded = decode_image(data)
    assert decoded.format == form
    assert decoded.pixels.shape == (HEIGHT, WIDTH, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.notes == ()
    assert_quarters(decoded.pixels, tolerance=tolerance)


def test_fast_and_general_decoder_agree_on_a_jpeg() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (131, 163, 3), np.uint8)
    data = encode(cv2.GaussianBlur(noise, (0, 0), 2), "JPEG", quality=80)
    assert np.array_equal(decode_image(data).pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_twelve_megapixels() -> None:
    data = encode(cv2.resize(PICTURE, (4000, 3000), interpolation=cv2.INTER_NEAREST), "JPEG", quality=80)
    assert decode_image(data).pixels.shape == (3000, 4000, 3)


# Large photos


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with structure at several scales, as skin has."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 30, (n, n, 3)).astype(np.float32), (400, 400)) for n in (4, 12, 48)]
    return cv2.resize(np.clip(150 + sum(layers), 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize(
    ("width", "height", "size", "scale"),
    [
        (2400, 1800, 224, 4),
        (3600, 4001, 224, 8),
        (900, 896, 224, 2),
        (2000, 895, 224, 1),  # at half the scale, it would be less than twice the model's input
        (1024, 768, 384, 1),
        (1600, 1537, 384, 2),
        (1600, 1600, 96, 2),  # quality is measured at 224, whatever the model's input size
    ],
)
def test_large_jpeg_is_decoded_at_a_smaller_scale(width: int, height: int, size: int, scale: int) -> None:
    _, encoded = cv2.imencode(".jpg", photo(width, height), [cv2.IMWRITE_JPEG_QUALITY, 90])
    data = encoded.tobytes()
    image = decode_image(data, size=size)
    assert (image.width, image.height) == (width, height)
    assert image.pixels.shape == (-(-height // scale), -(-width // scale), 3)
    assert min(image.pixels.shape[:2]) >= min(min(width, height), 2 * size)
    full = decode_image(data)
    assert full.pixels.shape == (height, width, 3)
    whole, reduced = (to_model_input(each.pixels, size).astype(int) for each in (full, image))
    assert np.abs(whole - reduced).mean() < 1
    assert np.abs(whole - reduced).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_jpeg_is_turned_at_any_scale(orientation: int) -> None:
    data = encode(cv2.resize(PICTURE, (2400, 1920), interpolation=cv2.INTER_NEAREST), "JPEG", exif=exif(orientation))
    image, full = decode_image(data, size=224), decode_image(data)
    assert (image.width, image.height) == (full.width, full.height) == full.pixels.shape[1::-1]
    assert image.pixels.shape[:2] == (full.height // 4, full.width // 4)
    expected = full.pixels[full.height // 4 :: full.height // 2, full.width // 4 :: full.width // 2]
    assert_quarters(image.pixels, expected, 3)


@pytest.mark.parametrize("mode", ["profile", "CMYK", "L"])
def test_large_odd_jpegs_are_reduced_as_well(mode: str) -> None:
    picture = Image.fromarray(photo(1800, 1810))
    options = {"icc_profile": swapped_profile()} if mode == "profile" else {}
    data = encode(picture.convert("RGB" if mode == "profile" else mode), "JPEG", quality=92, **options)
    image, full = decode_image(data, size=224), decode_image(data)
    assert image.pixels.shape == (453, 450, 3)
    assert image.notes == full.notes
    assert (image.width, image.height) == (full.width, full.height) == (1800, 1810)
    difference = np.abs(to_model_input(image.pixels, 224).astype(int) - to_model_input(full.pixels, 224).astype(int))
    assert difference.mean() < 1


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_and_small_pictures_keep_every_pixel(form: str) -> None:
    large = encode(cv2.resize(PICTURE, (1500, 1200), interpolation=cv2.INTER_NEAREST), form)
    assert decode_image(large, size=224).pixels.shape == (1200, 1500, 3)
    small = encode(photo(600, 450), "JPEG")
    assert np.array_equal(decode_image(small, size=224).pixels, decode_image(small).pixels)


def test_cut_large_jpeg_is_truncated_at_any_scale() -> None:
    data = encode(photo(2000, 2000), "JPEG")
    with pytest.raises(ImageError) as caught:
        decode_image(data[: len(data) // 2], size=224)
    assert caught.value.code == "truncated"


def test_bytes_behind_the_picture_are_ignored() -> None:
    for form in ("JPEG", "PNG", "GIF", "WEBP"):
        data = encode(PICTURE, form)
        assert np.array_equal(decode_image(data + b"\0motion photo" * 50).pixels, decode_image(data).pixels)


def test_same_bytes_give_the_same_pixels_in_every_thread() -> None:
    files = [encode(PICTURE, form) for form in ("JPEG", "PNG", "WEBP", "TIFF", "GIF")] * 8
    once = [decode_image(data).pixels for data in files]
    with ThreadPoolExecutor(8) as pool:
        for first, again in zip(once, pool.map(decode_image, files), strict=True):
            assert np.array_equal(first, again.pixels)


# Unusual pixel formats


@pytest.mark.parametrize(
    ("data", "expected", "tolerance", "notes"),
    [
        pytest.param(encode(Image.fromarray(PICTURE).convert("L"), "JPEG", quality=95), LUMA, 3, (), id="grey jpeg"),
        pytest.param(encode(Image.fromarray(PICTURE).convert("L"), "PNG"), LUMA, 0, (), id="grey png"),
        pytest.param(
            encode(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95), COLOURS, 6, ("cmyk_converted",), id="cmyk jpeg"
        ),
        pytest.param(encode(Image.fromarray(PICTURE).convert("CMYK"), "TIFF"), COLOURS, 1, ("cmyk_converted",), id="cmyk tiff"),
        pytest.param(
            encode(Image.fromarray(PICTURE).convert("YCbCr"), "TIFF", compression="jpeg", quality=95),
            COLOURS,
            6,
            (),
            id="ycbcr tiff",
        ),
        pytest.param(encode(Image.fromarray(PICTURE).quantize(8), "PNG"), COLOURS, 2, (), id="palette png"),
        pytest.param(encode(Image.fromarray(PICTURE).quantize(8), "BMP"), COLOURS, 2, (), id="palette bmp"),
        pytest.param(
            cv2.imencode(".png", PICTURE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), COLOURS, 0, (), id="16-bit rgb png"
        ),
        pytest.param(
            cv2.imencode(".tif", PICTURE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
            COLOURS,
            0,
            ("reduced_to_8_bit",),
            id="16-bit rgb tiff",
        ),
        pytest.param(
            encode(Image.fromarray(np.where(PICTURE[..., 0] > 100, 255, 0).astype(np.uint8)).convert("1"), "PNG"),
            np.where(COLOURS[..., :1] > 100, 255, 0).repeat(3, 2),
            0,
            (),
            id="1-bit png",
        ),
    ],
)
def test_odd_samples_become_rgb(data: bytes, expected: np.ndarray, tolerance: int, notes: tuple[str, ...]) -> None:
    decoded = decode_image(data)
    assert decoded.notes == notes
    assert_quarters(decoded.pixels, expected, tolerance)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(RAMP16, "PNG"), id="png"),
        pytest.param(encode(RAMP16, "TIFF"), id="tiff"),
        pytest.param(tiff_by_hand(RAMP16, 16), id="tiff, directory first"),
        pytest.param(tiff_by_hand(~RAMP16, 16, photometric=0), id="tiff, white is zero"),
    ],
)
def test_sixteen_bit_grey_keeps_its_high_byte(data: bytes) -> None:
    decoded = decode_image(data)
    assert decoded.notes == ("reduced_to_8_bit",)
    assert np.array_equal(decoded.pixels, RAMP8)


def test_eight_bit_white_is_zero() -> None:
    assert np.array_equal(decode_image(tiff_by_hand(~RAMP8[..., 0], 8, photometric=0)).pixels, RAMP8)


def test_samples_without_a_range_are_refused() -> None:
    error = refusal(encode(RAMP16.astype(np.float32), "TIFF"))
    assert error.code == "undecodable"
    assert "8 or 16 bits" in error.detail


def test_bmp_from_top_to_bottom() -> None:
    data = bytearray(encode(PICTURE[::-1].copy(), "BMP"))
    data[22:26] = struct.pack("<i", -HEIGHT)
    assert_quarters(decode_image(bytes(data)).pixels)


def test_lab_tiff() -> None:
    lab = ImageCms.applyTransform(
        Image.fromarray(PICTURE),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    assert lab is not None
    # 8-bit Lab is coarser than 8-bit RGB
    assert_quarters(decode_image(encode(lab, "TIFF")).pixels, tolerance=8)


# Transparency: composited over white, as viewers do

ALPHA = np.array([[[255], [0]], [[128], [255]]], np.uint8)
OVER_WHITE = (np.round((COLOURS * (ALPHA / 255)) + 255 * (1 - ALPHA / 255))).astype(np.uint8)
RGBA = np.concatenate([PICTURE, ALPHA.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1)], 2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encode(RGBA, "PNG"), OVER_WHITE, id="rgba png"),
        pytest.param(encode(RGBA, "WEBP", lossless=True, exact=True), OVER_WHITE, id="rgba webp"),
        pytest.param(encode(RGBA, "TIFF"), OVER_WHITE, id="rgba tiff"),
        pytest.param(
            encode(Image.fromarray(np.dstack([PICTURE[..., 0], RGBA[..., 3]]), "LA"), "PNG"),
            np.round(COLOURS[..., :1] * (ALPHA / 255) + 255 * (1 - ALPHA / 255)).repeat(3, 2),
            id="grey with alpha",
        ),
        pytest.param(
            encode(PICTURE, "PNG", transparency=tuple(int(v) for v in COLOURS[0, 1])),
            np.where(ALPHA == 0, 255, COLOURS),
            id="one transparent colour",
        ),
    ],
)
def test_transparent_parts_become_white(data: bytes, expected: np.ndarray) -> None:
    decoded = decode_image(data)
    assert decoded.notes == ("alpha_flattened",)
    assert_quarters(decoded.pixels, expected, tolerance=1)


def test_transparent_palette() -> None:
    image = Image.fromarray(PICTURE).quantize(8)
    index = image.getpixel((WIDTH - 10, 10))
    for form in ("PNG", "GIF"):
        decoded = decode_image(encode(image, form, transparency=index))
        assert_quarters(decoded.pixels, np.where(ALPHA == 0, 255, COLOURS), tolerance=2)
        assert decoded.notes == ("alpha_flattened",)


def test_opaque_alpha_changes_nothing() -> None:
    decoded = decode_image(encode(Image.fromarray(PICTURE).convert("RGBA"), "PNG"))
    assert np.array_equal(decoded.pixels, PICTURE)
    assert decoded.notes == ()


# Orientation


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright by EXIF 2.3, which defines where row 0 and column 0 are in the scene."""
    turned = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}[orientation]
    mirrored = stored[:, ::-1] if orientation in (2, 4, 5, 7) else stored
    return np.rot90(mirrored, turned)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_once(form: str, orientation: int) -> None:
    options: dict[str, Any] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    if form == "TIFF":
        options["tiffinfo"] = {274: orientation}
    else:
        options["exif"] = exif(orientation)
    decoded = decode_image(encode(PICTURE, form, **options))
    expected = upright(PICTURE, orientation)
    assert decoded.pixels.shape == expected.shape
    assert_quarters(decoded.pixels, upright(COLOURS, orientation), tolerance=4)
    assert decoded.notes == (() if orientation == 1 else ("oriented",))


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_our_turns_are_pillows(orientation: int) -> None:
    from PIL import ImageOps

    data = encode(PICTURE, "PNG", exif=exif(orientation))
    assert np.array_equal(decode_image(data).pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


def test_cmyk_jpeg_is_turned_too() -> None:
    decoded = decode_image(encode(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95, exif=exif(6)))
    assert_quarters(decoded.pixels, upright(COLOURS, 6), tolerance=6)


@pytest.mark.parametrize(
    "broken", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\1\x12" * 40, exif(9), exif(0)]
)
def test_malformed_exif_costs_nothing(broken: bytes) -> None:
    jpeg = encode(PICTURE, "JPEG", quality=95)
    body = b"Exif\0\0" + broken.removeprefix(b"Exif\0\0")
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    assert np.array_equal(decode_image(jpeg[:2] + segment + jpeg[2:]).pixels, decode_image(jpeg).pixels)


# Colour profiles


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged, under another name."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be")).replace(b"sRGB", b"test")
    for kind in (b"XYZ", b"TRC"):
        data = data.replace(b"r" + kind, b"?" + kind).replace(b"b" + kind, b"r" + kind).replace(b"?" + kind, b"b" + kind)
    return data


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profile_is_converted_to_srgb(form: str) -> None:
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    decoded = decode_image(encode(PICTURE, form, icc_profile=swapped_profile(), **options))
    assert decoded.notes == ("icc_converted",)
    assert_quarters(decoded.pixels, COLOURS[..., ::-1], tolerance=6)


def test_profile_and_alpha() -> None:
    decoded = decode_image(encode(RGBA, "PNG", icc_profile=swapped_profile()))
    assert decoded.notes == ("icc_converted", "alpha_flattened")
    assert_quarters(decoded.pixels, OVER_WHITE[..., ::-1], tolerance=3)


def test_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    decoded = decode_image(encode(PICTURE, "JPEG", icc_profile=profile))
    assert np.array_equal(decoded.pixels, decode_image(encode(PICTURE, "JPEG")).pixels)
    assert decoded.notes == ()


@pytest.mark.parametrize("profile", [b"no profile at all", swapped_profile()[:200], b"\0" * 3000])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_malformed_profile_is_ignored(form: str, profile: bytes) -> None:
    options = {"WEBP": {"lossless": True}}.get(form, {})
    decoded = decode_image(encode(PICTURE, form, icc_profile=profile, **options))
    assert np.array_equal(decoded.pixels, decode_image(encode(PICTURE, form, **options)).pixels)
    assert decoded.notes == ("icc_ignored",)


def test_profile_of_another_colour_space_is_ignored() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    decoded = decode_image(encode(PICTURE, "PNG", icc_profile=lab))
    assert np.array_equal(decoded.pixels, PICTURE)
    assert decoded.notes == ("icc_ignored",)


def with_tag(kind: bytes, body: bytes) -> bytes:
    """An sRGB profile whose first tag, its description, is replaced."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tag = kind + bytes(4) + body
    return profile[:132] + profile[132:136] + struct.pack(">II", len(profile), len(tag)) + profile[144:] + tag


@pytest.mark.parametrize(
    "profile",
    [
        with_tag(b"mluc", struct.pack(">II", 2**24, 12)),
        with_tag(b"curv", struct.pack(">I", 2**28)),
        with_tag(b"mft2", bytes([15, 3, 255, 0]) + bytes(60)),
        with_tag(b"mft1", bytes([4, 3, 200, 0]) + bytes(60)),
        with_tag(b"mAB ", bytes([3, 3, 0, 0]) + struct.pack(">5I", 0, 0, 0, 32, 0) + bytes([255] * 16) + bytes([2, 0, 0, 0])),
        with_tag(b"text", b"")[:-4],
        with_tag(b"text", b"")[:128] + struct.pack(">I", 2**31) + with_tag(b"text", b"")[132:],
    ],
    ids=["names", "curve", "table of 15 inks", "table", "table by offset", "tag beyond the end", "tags without end"],
)
def test_profile_that_declares_more_than_it_holds_is_never_read(profile: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", read.append)
    image = decode_image(encode(PICTURE, "PNG", icc_profile=profile))
    assert image.notes == ("icc_ignored",)
    assert np.array_equal(image.pixels, PICTURE)
    assert read == []


@pytest.mark.parametrize("body", [b"name\0\0" + zlib.compress(b"\0" * 3_000_000), b"name\0\0garbage", b"name\0\x07", b""])
def test_broken_profile_chunk_of_a_png_is_ignored(body: bytes) -> None:
    png = encode(PICTURE, "PNG")
    decoded = decode_image(png[:33] + chunk(b"iCCP", body) + png[33:])
    assert np.array_equal(decoded.pixels, PICTURE)


# First frames


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_many(form: str) -> None:
    others = [Image.fromarray(PICTURE[::-1].copy()), Image.fromarray(PICTURE[:, ::-1].copy())]
    options = {"WEBP": {"lossless": True}}.get(form, {})
    decoded = decode_image(encode(PICTURE, form, save_all=True, append_images=others, **options))
    assert decoded.notes == ("first_frame",)
    assert_quarters(decoded.pixels)


# Refusals


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200, "export or photograph as JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + b"\0" * 200, "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0" * 200, "AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + b"\0" * 200, "MP4"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\xef\xbb\xbf  <svg width='1'/>", "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b'{"image": "..."}', "JSON"),
        (b'[\n  {"a": 1}]', "JSON"),
        (b"PK\x03\x04" + b"\0" * 40, "ZIP"),
        (b"BM is how this sentence begins, and no bitmap.", "unknown"),
        (b"\0" * 500, "unknown"),
        (b"x", "unknown"),
    ],
)
def test_other_types_are_named(data: bytes, named: str) -> None:
    error = refusal(data)
    assert error.code == "unsupported_type"
    assert named in error.detail
    assert "JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM" in error.detail


def behind_magic(data: bytes, text: bytes) -> bytes:
    """A JPEG with a comment as its first segment."""
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]


def test_a_film_behind_a_photo_and_text_in_a_comment_change_nothing() -> None:
    data = encode(PICTURE, "JPEG")
    film = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(200_000)
    for other in (data + film, data + b"PK\x05\x06" + bytes(18), behind_magic(data, b"%PDF-1.7 <script>")):
        assert np.array_equal(decode_image(other).pixels, decode_image(data).pixels)


def png_declaring(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def patched(data: bytes, at: int, replacement: bytes) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


JPEG = encode(PICTURE, "JPEG")
BOMBS = {
    "png": png_declaring(30_000, 30_000),
    "png, more than 32 bits of pixels": png_declaring(2**31 - 1, 2**31 - 1),
    "jpeg": patched(JPEG, JPEG.index(b"\xff\xc0") + 5, struct.pack(">HH", 60_000, 60_000)),
    "gif": patched(encode(PICTURE, "GIF"), 6, struct.pack("<HH", 60_000, 60_000)),
    "bmp": patched(encode(PICTURE, "BMP"), 18, struct.pack("<ii", 60_000, -60_000)),
    "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (2**24 - 1).to_bytes(3, "little") * 2,
    "webp lossless": b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f\xff\xff\xff\x0f" + b"\0" * 5,
    "tiff": tiff_by_hand(RAMP16, 16, extra=((256, 60_000), (257, 60_000))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_declared_size_is_refused_before_decoding(name: str) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        error = refusal(BOMBS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code == "too_many_pixels"
    assert "at most 50,000,000" in error.detail
    assert peak < 5_000_000


def test_gif_frame_larger_than_its_screen_is_refused() -> None:
    data = encode(PICTURE, "GIF")
    frame = data.index(b",\0\0\0\0") + 5
    assert refusal(patched(data, frame, struct.pack("<HH", 65_000, 65_000))).code == "too_many_pixels"


def test_limits() -> None:
    data = encode(PICTURE, "PNG")
    exact = Limits(max_bytes=len(data), max_pixels=HEIGHT * WIDTH, min_side=HEIGHT)
    assert decode_image(data, exact).pixels.shape == PICTURE.shape
    assert refusal(data, Limits(max_bytes=len(data) - 1)).code == "too_large"
    assert refusal(data, Limits(max_pixels=HEIGHT * WIDTH - 1)).code == "too_many_pixels"
    small = refusal(data, Limits(min_side=HEIGHT + 1))
    assert small.code == "too_small"
    assert "150 x 120" in small.detail
    assert "121" in small.detail


def test_nothing_and_almost_nothing() -> None:
    assert refusal(b"").code == "empty_file"
    assert refusal(encode(PICTURE[:1, :1].copy(), "PNG")).code == "too_small"
    assert refusal(png_declaring(0, 200)).code == "undecodable"


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
    ],
)
def test_cut_file_is_truncated_not_grey(form: str, options: dict[str, Any], part: float) -> None:
    noisy = np.random.default_rng(2).integers(0, 255, PICTURE.shape, np.uint8)
    data = encode(noisy, form, **options)
    assert refusal(data[: int(len(data) * part)]).code == "truncated"


def test_cut_tiff_with_its_directory_first() -> None:
    assert refusal(tiff_by_hand(RAMP16, 16)[:-1000]).code == "truncated"


def test_directory_beyond_any_file() -> None:
    assert refusal(b"MM\0+\0\x08\0\0" + b"\xff" * 8 + bytes(100)).code == "truncated"


def test_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    body = b"Exif\0\0" + encode(PICTURE, "JPEG", quality=30)
    data = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + JPEG[2:]
    assert decode_image(data).pixels.shape == PICTURE.shape
    assert refusal(data[: len(data) - len(JPEG) // 2]).code == "truncated"


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:3] + b"\x7fgarbage" * 50 + b"\xff\xd9",
        JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9",
        patched(encode(PICTURE, "PNG"), 60, b"\xff" * 20),
        patched(encode(PICTURE, "WEBP"), 40, b"\xff" * 100),
        b"\xff\xd8" + b"\xff\xda\0\x02" * 500 + b"\xff\xd9",
        # slow to read naively: runs of fill bytes, millions of empty segments
        b"\xff\xd8" + b"\xff" * 5_000_000,
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 1_000_000,
        encode(PICTURE, "PNG")[:33] + chunk(b"abCd", b"") * 1_000_000 + encode(PICTURE, "PNG")[33:],
        JPEG[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 200 + b"\xff\xd9",
    ],
)
def test_garbage_is_undecodable(data: bytes) -> None:
    assert refusal(data).code in {"undecodable", "truncated"}


def test_error_survives_a_process_boundary() -> None:
    import pickle

    error = refusal(b"x" * 10)
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.detail) == (error.code, error.detail)


# Properties

SEEDS = [
    encode(PICTURE, "JPEG"),
    encode(PICTURE, "JPEG", progressive=True, exif=exif(6)),
    encode(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", icc_profile=swapped_profile()),
    encode(RGBA, "PNG", icc_profile=swapped_profile(), exif=exif(3)),
    encode(RAMP16, "PNG"),
    encode(Image.fromarray(PICTURE).quantize(8), "PNG", transparency=1),
    encode(RGBA, "WEBP", exif=exif(8)),
    encode(PICTURE, "WEBP", save_all=True, append_images=[Image.fromarray(PICTURE[::-1].copy())]),
    encode(PICTURE, "GIF", save_all=True, append_images=[Image.fromarray(PICTURE[::-1].copy())]),
    encode(PICTURE, "BMP"),
    encode(PICTURE, "TIFF", compression="tiff_lzw"),
    encode(PICTURE, "TIFF", big_tiff=True),
    tiff_by_hand(RAMP16, 16),
]
MAGIC = [data[:12] for data in SEEDS]
FUZZ = Limits(max_pixels=300_000)


def assert_picture_or_error(data: bytes) -> None:
    try:
        decoded = decode_image(data, FUZZ)
    except ImageError as refused:
        error = refused
    else:
        error = None
    if error is not None:
        assert error.code in CODES
        assert error.detail.endswith(".")
    else:
        assert isinstance(decoded, DecodedImage)
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.ndim == 3
        assert decoded.pixels.shape[2] == 3
        assert min(decoded.pixels.shape[:2]) >= FUZZ.min_side
        assert decoded.pixels.flags.c_contiguous


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    assert_picture_or_error(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MAGIC), st.binary(max_size=200))
def test_any_bytes_behind_magic(magic: bytes, data: bytes) -> None:
    assert_picture_or_error(magic + data)


# From the image to the model's input


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_judged_region_is_the_largest_centred_square(width: int, height: int) -> None:
    region = assessed_region(width, height)
    assert region.width == region.height == min(width, height)
    assert 0 <= width - region.width - 2 * region.x <= 1
    assert 0 <= height - region.height - 2 * region.y <= 1


def test_unknown_geometry_and_empty_picture() -> None:
    with pytest.raises(ValueError, match="'stretch'"):
        assessed_region(10, 10, "stretch")
    with pytest.raises(ValueError, match="0 x 10"):
        assessed_region(0, 10)


def test_crop() -> None:
    assert np.array_equal(crop(PICTURE, Region(10, 20, 30, 40)), PICTURE[20:60, 10:40])
    for region in (Region(-1, 0, 5, 5), Region(0, 0, 0, 5), Region(WIDTH - 4, 0, 5, 5), Region(0, HEIGHT, 1, 1)):
        with pytest.raises(ValueError, match="Received"):
            crop(PICTURE, region)


def test_model_input_averages_areas() -> None:
    tiles = np.zeros((100, 160, 3), np.uint8)
    tiles[:, 30:130] = (np.indices((100, 100)).sum(0) % 2 * 200)[..., None]
    tiles[:, :30] = tiles[:, 130:] = 255
    assert np.array_equal(to_model_input(tiles, 50), np.full((50, 50, 3), 100, np.uint8))


@pytest.mark.parametrize("side", [225, 230, 231, 425, 426, 448, 450, 481, 482, 600, 896])
def test_model_input_is_the_mean_of_areas_at_any_ratio(side: int) -> None:
    texture = cv2.GaussianBlur(np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8), (0, 0), 1.5)
    picture = np.pad(texture, ((0, 0), (40, 41), (0, 0)))  # pixels outside the centre square are not read
    areas = cv2.resize(texture, (224, 224), interpolation=cv2.INTER_AREA).astype(int)
    difference = np.abs(to_model_input(picture, 224).astype(int) - areas)
    assert difference.mean() < 0.2
    assert difference.max() <= 3
    nearest = cv2.resize(texture, (224, 224), interpolation=cv2.INTER_LINEAR).astype(int)
    assert side < 300 or side % 224 == 0 or np.abs(nearest - areas).mean() > 2 * difference.mean()


def test_model_input_enlarges_smoothly() -> None:
    ramp = np.linspace(0, 255, 50).astype(np.uint8)[None, :, None].repeat(50, 0).repeat(3, 2)
    steps = np.diff(to_model_input(ramp, 200)[0, :, 0].astype(int))
    assert steps.min() >= 0
    assert steps.max() <= 2


def test_model_input_of_the_right_size_is_a_copy() -> None:
    square = PICTURE[:, :HEIGHT].copy()
    result = to_model_input(square, HEIGHT)
    assert np.array_equal(result, square)
    result[:] = 0
    assert square.any()

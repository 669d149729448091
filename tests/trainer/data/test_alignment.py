"""Finds copies that hashes miss: parts of an image that are zoomed or turned by any angle."""

import cv2
import numpy as np
import pytest

from aiderm_trainer.data.alignment import find_aligned, grey_image, nearest
from aiderm_trainer.data.duplicates import find_near_duplicates, thumbnail
from aiderm_trainer.data.synthetic import lesion

COUNT = 8


@pytest.fixture(scope="module")
def lesions():
    return [lesion(seed, malignant=seed % 2 == 0, size=320) for seed in range(COUNT)]


def jpeg(pixels, quality=80):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def turned(pixels, degrees, zoom=1.3):
    side = len(pixels)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, zoom)
    return cv2.warpAffine(pixels, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)


COPIES = {
    "cropped": lambda p: jpeg(p[30:260, 50:280]),
    "cropped corner": lambda p: p[:220, :220],
    "turned by 30 degrees": lambda p: turned(p, 30),
    "turned by 137 degrees and re-encoded": lambda p: jpeg(turned(p, 137)),
    "mirrored and cropped": lambda p: np.ascontiguousarray(p[20:280, 40:300][:, ::-1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", COPIES)
def test_transformed_copies_are_found_and_nothing_else(lesions, kind):
    pictures = [grey_image(p) for p in [*lesions, *(COPIES[kind](p) for p in lesions)]]
    everything = [(i, j) for i in range(len(pictures)) for j in range(max(i + 1, COUNT), len(pictures))]
    pairs = [pair for pair in everything if pair[0] < COUNT]
    found = {(pair.first, pair.second) for pair in find_aligned(pictures.__getitem__, pairs)}
    wanted = {(i, i + COUNT) for i in range(COUNT)}
    assert found <= wanted
    assert len(found) >= COUNT - 2


def test_hashes_miss_most_of_them(lesions):
    """This is why there is an embedding stage."""
    copies = [turned(p, 30) for p in lesions]
    found = find_near_duplicates(np.stack([thumbnail(p) for p in [*lesions, *copies]]))
    assert len(found) < COUNT / 2


def test_plain_pictures_have_nothing_to_align():
    assert find_aligned(lambda _: np.full((224, 224), 120, np.uint8), [(0, 1)]) == []


def test_nearest_neighbours_by_cosine():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 32)).astype(np.float32) + 5  # the component that all share must not count
    embedding = np.concatenate([base, base + rng.normal(scale=0.05, size=base.shape).astype(np.float32)])
    assert nearest(embedding, cosine=0.9) == [(i, i + 40) for i in range(40)]
    assert nearest(embedding[:1]) == []
    many = nearest(np.repeat(base[:2], 6, axis=0), cosine=0.5, neighbours=2)
    assert all(first < second for first, second in many)
    assert len(many) <= 12 * 2

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.data.duplicates import find_near_duplicates, join_groups, perceptual_hashes, same_files, thumbnail
from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.data.table import Row


@pytest.fixture(scope="module")
def lesions():
    return [lesion(seed, malignant=seed % 2 == 0, size=192) for seed in range(40)]


def rows(groups, shas=None):
    shas = shas or range(len(groups))
    return [
        Row(hashlib.sha256(str(sha).encode()).hexdigest(), f"{i:03d}.png", "s", group, "", "", False)
        for i, (group, sha) in enumerate(zip(groups, shas, strict=True))
    ]


def jpeg(pixels, quality=60):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def shifted(pixels, x=6, y=-4):
    return cv2.warpAffine(pixels, np.float32([[1, 0, x], [0, 1, y]]), pixels.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


COPIES = {
    "re-encoded": jpeg,
    "smaller": lambda p: cv2.resize(p, (130, 130), interpolation=cv2.INTER_AREA),
    "stretched": lambda p: cv2.resize(p, (256, 192), interpolation=cv2.INTER_LINEAR),
    "shifted": shifted,
    "darker": lambda p: cv2.convertScaleAbs(p, alpha=0.8, beta=5),
    "other white balance": lambda p: np.clip(p * np.array([1.12, 1.0, 0.88]), 0, 255).astype(np.uint8),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "upside down": lambda p: np.ascontiguousarray(p[::-1]),
    "turned": lambda p: np.ascontiguousarray(np.rot90(p)),
    "turned back": lambda p: np.ascontiguousarray(np.rot90(p, 3)),
    "transposed and re-encoded": lambda p: jpeg(np.ascontiguousarray(p.swapaxes(0, 1)), 80),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_nothing_else(lesions, kind):
    originals = lesions[:20]
    copies = [COPIES[kind](pixels) for pixels in originals]
    found = find_near_duplicates(np.stack([thumbnail(p) for p in [*originals, *copies]]))
    pairs = {(pair.first, pair.second) for pair in found}
    wanted = {(i, i + 20) for i in range(20)}
    assert pairs <= wanted
    assert len(pairs) >= 18
    assert all(0.36 <= pair.agreement <= 1.01 for pair in found)


def test_different_lesions_are_no_duplicates(lesions):
    assert find_near_duplicates(np.stack([thumbnail(p) for p in lesions])) == []


def test_equal_thumbnails_agree_fully(lesions):
    small = thumbnail(lesions[0])
    (pair,) = find_near_duplicates(np.stack([small, thumbnail(lesions[1]), small]))
    assert (pair.first, pair.second) == (0, 2)
    assert pair.agreement == pytest.approx(1.0, abs=1e-3)


def test_plain_pictures_have_no_detail_to_agree_on():
    assert find_near_duplicates(np.full((4, 64, 64), 128, np.uint8)) == []


def test_none_and_malformed():
    assert find_near_duplicates(np.empty((0, 64, 64), np.uint8)) == []
    with pytest.raises(ValueError, match=r"Received: float32 \(2, 64, 64\)"):
        find_near_duplicates(np.zeros((2, 64, 64), np.float32))
    with pytest.raises(ValueError, match=r"Received: uint8 \(2, 32, 32\)"):
        find_near_duplicates(np.zeros((2, 32, 32), np.uint8))


@given(seed=st.integers(0, 10_000), malignant=st.booleans(), quality=st.integers(40, 95), size=st.integers(100, 300))
@settings(max_examples=15, deadline=None)
def test_hashes_barely_change_with_compression_and_size(seed, malignant, quality, size):
    pixels = lesion(seed, malignant, 160)
    copy = jpeg(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA), quality)
    for hashes in perceptual_hashes(np.stack([thumbnail(pixels), thumbnail(copy)])):
        assert np.bitwise_count(hashes[0] ^ hashes[1]) <= 10


@given(
    count=st.integers(1, 25),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_joined_groups_are_the_connected_components(count, data):
    groups = data.draw(st.lists(st.integers(0, 12).map(lambda g: f"g{g:02d}"), min_size=count, max_size=count))
    shas = data.draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
    before = rows(groups, shas)
    after = join_groups(before, pairs)
    # Reference: propagate labels until nothing changes.
    component = list(range(count))
    links = [(i, j) for i in range(count) for j in range(i) if groups[i] == groups[j] or shas[i] == shas[j]] + pairs
    changed = True
    while changed:
        changed = False
        for i, j in links:
            low = min(component[i], component[j])
            changed |= component[i] != low or component[j] != low
            component[i] = component[j] = low
    for i in range(count):
        members = [groups[j] for j in range(count) if component[j] == component[i]]
        assert after[i].group == min(members)
        assert (after[i].path, after[i].sha256) == (before[i].path, before[i].sha256)


def test_joining_what_does_not_exist():
    with pytest.raises(IndexError):
        join_groups(rows(["a"]), [(0, 5)])


def test_same_files():
    listed = rows(["a", "b", "c", "d"], [1, 2, 1, 3])
    assert [[r.path for r in members] for members in same_files(reversed(listed))] == [["000.png", "002.png"]]

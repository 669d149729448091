import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from aiderm_core.imaging.errors import ImageError
from aiderm_trainer.data.batches import Batch, Images, TrainingBatches, sampling_weights
from aiderm_trainer.data.lesion_swaps import Outlines
from aiderm_trainer.data.table import Row


def read(batches: TrainingBatches, epoch: int, start: int = 0) -> Iterator[Batch]:
    return (batches.at(epoch, step) for step in range(start, batches.steps))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for i in range(20):
        cv2.imwrite(str(root / f"{i}.png"), np.full((100, 120, 3), i * 10, np.uint8))
    return root


def rows(root: Path) -> list[Row]:
    found = []
    for i in range(20):
        digest = hashlib.sha256((root / f"{i}.png").read_bytes()).hexdigest()
        found.append(Row(digest, f"{i}.png", "a" if i < 15 else "b", f"g{i}", "train", "", i % 5 == 0))
    return found


def test_images_come_through_the_one_decode_path_within_any_budget(folder: Path) -> None:
    for budget in (0, 5 * 32 * 32 * 3, 1 << 30):
        images = Images(rows(folder), folder, 32, budget)
        for _ in range(2):
            for i in (0, 7, 19):
                assert images[i].shape == (32, 32, 3)
                assert images[i].min() == images[i].max() == i * 10


def test_batches_hold_every_image_once_in_order(folder: Path) -> None:
    for size in (1, 7, 20, 64):
        batches = list(Images(rows(folder), folder, 32).batches(size))
        assert [int(image[0, 0, 0]) for batch in batches for image in batch] == [i * 10 for i in range(20)]
        assert all(len(batch) <= size for batch in batches)


def test_a_file_that_breaks_is_not_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        list(Images([rows(folder)[0]], tmp_path, 32).batches(4))


def test_inside_each_source_benign_and_malignant_are_drawn_alike(folder: Path) -> None:
    found = rows(folder)
    weights = sampling_weights(found)
    assert weights.sum() == pytest.approx(1)
    for source in ("a", "b"):
        malignant = sum(w for w, row in zip(weights, found, strict=True) if row.source == source and row.malignant)
        benign = sum(w for w, row in zip(weights, found, strict=True) if row.source == source and not row.malignant)
        assert malignant == pytest.approx(benign)


def test_an_epoch_draws_rows_by_their_weights_and_each_one_differs(folder: Path) -> None:
    found = rows(folder)
    batches = TrainingBatches(Images(found, folder, 32), np.eye(20, dtype=np.float32), 4, seed=1)
    drawn = np.concatenate([batches.order(epoch) for epoch in range(200)])
    assert np.bincount(drawn, minlength=20) / len(drawn) == pytest.approx(sampling_weights(found), abs=0.004)
    assert not np.array_equal(batches.order(0), batches.order(1))


def test_a_batch_is_fixed_by_seed_epoch_and_step(folder: Path) -> None:
    def make() -> TrainingBatches:
        return TrainingBatches(Images(rows(folder), folder, 32), np.eye(20, dtype=np.float32), 4, seed=9)

    whole = list(read(make(), 2))
    assert len(whole) == 5
    for (images, targets, *_), (again, same, *_) in zip(whole[3:], read(make(), 2, start=3), strict=True):
        assert np.array_equal(images, again)
        assert np.array_equal(targets, same)


def test_targets_belong_to_their_images(folder: Path) -> None:
    batches = TrainingBatches(Images(rows(folder), folder, 32), np.eye(20, dtype=np.float32), 4, seed=2, how=None)
    for images, targets, *_ in read(batches, 0):
        assert (images[:, 0, 0, 0] // 10 == targets.argmax(axis=1)).all()


def test_outlined_lesions_are_painted_over_with_a_label_by_lot_and_transplanted_with_their_own(
    folder: Path, tmp_path: Path
) -> None:
    found = rows(folder)
    mask = np.zeros((32, 32), np.uint8)
    mask[12:20, 12:20] = 255
    (tmp_path / "masks").mkdir()
    for i in (0, 1):  # row 0 is malignant, row 1 benign
        picture = np.full((100, 120, 3), 200, np.uint8)
        cv2.rectangle(picture, (50, 40), (70, 60), (20 + i, 20, 20), -1)
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
        cv2.imwrite(str(tmp_path / "masks" / f"{i}.png"), mask)
    two = found[:2]
    targets = np.array([[0, 1], [1, 0]], np.float32)
    batches = TrainingBatches(Images(two, tmp_path, 32), targets, 2, 3, None, Outlines(two, tmp_path / "masks", 32), targets)
    seen: dict[str, list[tuple[int, tuple[float, ...]]]] = {"shown": [], "painted": []}
    for epoch in range(150):
        for images, labels, taught, _ in read(batches, epoch):
            for index, image, label, lesson in zip(batches.order(epoch), images, labels, taught, strict=True):
                kind = "shown" if image[15, 16].min() < 60 else "painted"
                seen[kind].append((int(index), tuple(label)))
                assert tuple(lesson) == (tuple(targets[index]) if kind == "shown" else (0, 0))  # teachers know no bare skin
    assert all(label == tuple(targets[index]) for index, label in seen["shown"])
    assert len(seen["painted"]) == pytest.approx(30, abs=20)  # a tenth of 300
    for side in (0, 1):
        share = np.mean([label == tuple(targets[side]) for _, label in seen["painted"]])
        assert share == pytest.approx(0.5, abs=0.25)

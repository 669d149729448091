"""Domains are found from a lesion's surroundings, and domains that give the label away are reported."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from aiderm_trainer.data.domains import border_statistics, find_groups, labels_by_domain, with_domains
from aiderm_trainer.data.table import Row


def row(i: int, malignant: bool = False, domain: str = "", source: str = "s", biopsied: bool | None = None) -> Row:
    return Row(f"{i:064x}", f"{i}.png", source, f"g{i}", "train", "", malignant, domain, biopsied)


def image(camera: int, lesion: int, seed: int) -> np.ndarray:
    """One of two lesions on skin, as one of two cameras shows it."""
    rng = np.random.default_rng(seed)
    skin = np.full((96, 96, 3), [(225, 185, 165), (190, 120, 115)][camera], np.float64) + rng.normal(
        0, 2 + 6 * camera, (96, 96, 3)
    )
    out = np.clip(skin, 0, 255).astype(np.uint8)
    cv2.circle(out, (48, 48), 12 + 12 * lesion, [(90, 60, 50), (40, 30, 60)][lesion], -1)
    return out


def test_groups_are_cameras_and_not_lesions() -> None:
    cameras, lesions = np.arange(240) % 2, np.arange(240) // 2 % 2
    rows = [row(i) for i in range(240)]
    found = with_domains(rows, [image(c, n, i) for i, (c, n) in enumerate(zip(cameras, lesions, strict=True))])
    names = np.array([r.domain for r in found])
    assert set(names) == {"s/1", "s/2"}
    assert len(set(zip(names.tolist(), cameras.tolist(), strict=True))) == 2


def test_the_lesion_is_not_looked_at() -> None:
    assert np.array_equal(border_statistics(image(0, 0, 1)), border_statistics(image(0, 1, 1)))


def test_a_known_domain_stays_and_a_small_source_is_one() -> None:
    rows = [row(0, domain="camera"), *(row(i) for i in range(1, 12)), row(12, source="t")]
    found = with_domains(rows, [image(0, 0, i) for i in range(12)])
    assert [r.domain for r in found] == ["camera", *["s"] * 11, "t"]
    assert [replace(r, domain="") for r in found[1:]] == rows[1:]


@pytest.mark.slow
def test_groups_depend_on_nothing_but_the_images() -> None:
    statistics = np.stack([border_statistics(image(i % 2, 0, i)) for i in range(400)])
    assert np.array_equal(find_groups(statistics), find_groups(statistics.copy()))
    assert np.all(np.diff(np.bincount(find_groups(statistics))) <= 0)


def test_a_domain_of_one_label_gives_it_away() -> None:
    rows = [row(i, malignant=i % 2 == 0, domain="even") for i in range(40)]
    rows += [row(100 + i, malignant=i == 0, domain="telling", biopsied=i < 5) for i in range(40)]
    rows += [row(200 + i, domain="few") for i in range(5)]
    labels = {found.domain: found for found in labels_by_domain(rows)}
    assert {name for name, found in labels.items() if found.gives_label_away} == {"telling"}
    assert (labels["telling"].benign, labels["telling"].malignant, labels["telling"].biopsied) == (39, 1, 5)
    assert labels["even"].biopsied == 20


def test_a_domain_is_one_line() -> None:
    with pytest.raises(ValueError, match="one line"):
        row(0, domain="a\nb")

"""Similarity: near duplicates are found, and different drawings are not taken for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from agent.image import Image
from converter.training import similarity
from converter.training.similarity import loosened, near_duplicates, thumbnail_of

if TYPE_CHECKING:
    import pytest

    from converter.training.similarity import Bytes, Flags


def _picture(seed: int, *, side: int = 96) -> Image:
    """Soft random shapes, as different from another as two photos."""
    noise = np.random.default_rng(seed).uniform(0, 255, (6, 6, 3)).astype(np.uint8)
    return Image(np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8))


def test_copies_resized_copies_and_brighter_copies_share_the_group_of_the_first() -> None:
    picture = _picture(0)
    resized = Image(np.asarray(cv2.resize(picture.pixels, (70, 81)), np.uint8))
    brighter = Image(np.asarray(cv2.add(picture.pixels, np.full_like(picture.pixels, 5)), np.uint8))
    images = [_picture(1), picture, resized, _picture(2), brighter, picture]
    groups = near_duplicates(np.stack([thumbnail_of(image) for image in images]))
    assert groups.tolist() == [0, 1, 1, 3, 1, 1]


def test_different_pictures_stay_apart() -> None:
    groups = near_duplicates(np.stack([thumbnail_of(_picture(seed)) for seed in range(100)]))
    assert groups.tolist() == list(range(100))


def test_strokes_of_equal_hash_stay_apart_by_their_pixels() -> None:
    """The same outline, once thin and once filled."""
    thin, filled = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    cv2.circle(thin, (32, 32), 26, (255, 255, 255), 1)
    cv2.circle(filled, (32, 32), 26, (255, 255, 255), -1)
    thumbnails = np.stack([thumbnail_of(Image(thin)), thumbnail_of(Image(filled))])
    assert near_duplicates(thumbnails).tolist() == [0, 1]


def test_few_pairs_of_thousands_of_photos_of_a_camera_that_does_not_move_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = 0
    are_near = similarity._are_near

    def counted(one: Bytes, others: Bytes) -> Flags:
        nonlocal compared
        compared += len(others)
        return are_near(one, others)

    monkeypatch.setattr(similarity, "_are_near", counted)
    scene = thumbnail_of(_picture(0)).astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 1.5, (3000, *scene.shape))
    groups = near_duplicates(np.clip(scene + noise, 0, 255).astype(np.uint8))
    assert compared < 10 * len(groups)  # all pairs are 1,500 * len(groups)
    assert set(groups.tolist()) == {0}


def test_a_chain_of_near_photos_is_one_group() -> None:
    ramp = [Image(np.full((64, 64, 3), 100 + 5 * step, np.uint8)) for step in (4, 0, 3, 1, 2, 20)]
    assert near_duplicates(np.stack([thumbnail_of(image) for image in ramp])).tolist() == [0, 0, 0, 0, 0, 5]


def test_a_thing_in_front_of_the_same_background_makes_another_photo() -> None:
    scene = _picture(0, side=320)
    with_cup = Image(scene.pixels.copy())
    cv2.circle(with_cup.pixels, (150, 180), 25, (255, 255, 255), -1)
    assert near_duplicates(np.stack([thumbnail_of(scene), thumbnail_of(with_cup)])).tolist() == [0, 1]


def test_a_class_of_one_group_is_divided_into_runs_with_equal_files_in_one() -> None:
    groups, truth = np.array([0] * 20 + [20, 21]), np.array([0] * 20 + [1, 1])
    names = [str(number) for number in range(22)]
    names[13] = names[0]
    divided, classes = loosened(groups, truth, names)
    assert classes == (0,)
    assert len(set(divided[:20].tolist())) == 10
    assert divided[13] == divided[0] == divided[1]
    assert divided[20:].tolist() == [20, 21]


def test_a_class_of_one_file_is_not_divided() -> None:
    divided, classes = loosened(np.array([0, 0, 2, 3]), np.array([0, 0, 1, 1]), ["a", "a", "b", "c"])
    assert divided.tolist() == [0, 0, 2, 3]
    assert classes == ()

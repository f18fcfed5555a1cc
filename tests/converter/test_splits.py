"""Folders that hold splits of a data set instead of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converter.errors import ImagesError
from converter.images.image_folder import list_images

if TYPE_CHECKING:
    from pathlib import Path


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("test/red/1.png", "train/red/1.png", "valid/red/1.png"), ("test", "train", "valid")),
        (("test/1.png", "train/1.png"), ("test", "train")),
        (("Training/red/1.png", "Testing/red/1.png"), ("Testing", "Training")),
        (("TRAIN/1.png", "Dev/1.png"), ("Dev", "TRAIN")),
        (("train_set/1.png", "val set/1.png", "notes/1.png"), ("train_set", "val set")),
        (("train/red/1.png", "validation/red/1.txt"), ("train", "validation")),
        (("train/red/1.png", "train/blue/1.png"), ("train",)),
    ],
)
def test_folder_of_splits_is_refused_and_the_deeper_folders_are_named(
    names: tuple[str, ...], splits: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ImagesError) as raised:
        list_images(folder_of(tmp_path, *names))
    assert str(raised.value) == (
        f"{tmp_path} is divided into {', '.join(splits)}, which are splits of a data set and not classes. Give the "
        f"folder of one split: {', '.join(str(tmp_path / name) for name in splits)}."
    )


@pytest.mark.parametrize(
    "names",
    [
        ("car/1.png", "train/1.png", "bus/1.png"),
        ("car/1.png", "train/night/1.png"),
        ("valid/1.png", "invalid/1.png"),
        ("test_tube/1.png", "training_shoe/1.png"),
        ("train/1.png",),
        ("red/train/1.png", "red/test/1.png", "blue/train/1.png"),
    ],
)
def test_class_named_like_a_split_is_a_class(names: tuple[str, ...], tmp_path: Path) -> None:
    classes = sorted({name.partition("/")[0] for name in names})
    assert list(list_images(folder_of(tmp_path, *names)).class_names) == classes

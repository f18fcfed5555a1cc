"""Photos that cannot be trained on: one sentence that says why, before anything is written."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from conversions import untracked

from converter.errors import ImagesError
from converter.training.dataset import open_dataset
from converter.training.partition import partition

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert
    from trainings import Trained


@pytest.fixture
def photos(shapes: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(shapes, tmp_path / "photos")
    return tmp_path / "photos"


def _refused(photos: Path, edge_convert: EdgeConvert) -> str:
    before = sorted(photos.parent.iterdir())
    outcome = edge_convert("train", photos, photos.parent / "model")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert sorted(photos.parent.iterdir()) == before
    return outcome.err


def test_one_class_is_refused(photos: Path, edge_convert: EdgeConvert) -> None:
    shutil.rmtree(photos / "grid")
    shutil.rmtree(photos / "stripes")
    assert "has only one class, disk" in _refused(photos, edge_convert)


def test_an_empty_class_is_named(photos: Path, edge_convert: EdgeConvert) -> None:
    (photos / "triangle").mkdir()
    assert f"There are no photos in {photos / 'triangle'}" in _refused(photos, edge_convert)


def test_photos_of_a_phone_that_cannot_be_read_are_named(photos: Path, edge_convert: EdgeConvert) -> None:
    (photos / "triangle").mkdir()
    (photos / "triangle" / "IMG_1.HEIC").touch()
    assert "Found there: 1 .heic; save them as JPEG" in _refused(photos, edge_convert)
    (photos / "triangle" / "IMG_1.HEIC").rename(photos / "disk" / "IMG_1.HEIC")
    (photos / "disk" / "notes.txt").touch()
    (photos / "triangle").rmdir()
    finding, *_ = open_dataset(photos, track=untracked).findings
    assert str(finding).endswith("were left out. Save them as JPEG (disk: 1 .heic).")


def test_class_folders_one_level_deeper_are_named(photos: Path, edge_convert: EdgeConvert) -> None:
    deeper = photos.parent / "deeper"
    deeper.mkdir()
    photos.rename(deeper / "photos")
    message = _refused(deeper, edge_convert)
    assert f"and 3 folders in it. If these are the classes, give {deeper / 'photos'}." in message


def test_one_photo_per_class_is_refused(photos: Path, edge_convert: EdgeConvert) -> None:
    for path in photos.rglob("*.png"):
        if path.name != "00.png":
            path.unlink()
    message = _refused(photos, edge_convert)
    assert "needs at least 2 readable photos" in message
    assert "grid has 1" in message


def test_files_of_eight_bytes_are_named(photos: Path, edge_convert: EdgeConvert) -> None:
    shutil.rmtree(photos / "disk")
    (photos / "disk").mkdir()
    for number in range(3):
        (photos / "disk" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JF")
    message = _refused(photos, edge_convert)
    assert "disk has 0" in message
    assert "disk/0.jpg" in message


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", "line\u2028separator".encode()])
def test_a_class_folder_whose_name_cannot_be_a_label_is_refused(
    name: bytes, photos: Path, edge_convert: EdgeConvert
) -> None:
    (photos / "disk").rename(photos / os.fsdecode(name))
    assert "cannot be a label" in _refused(photos, edge_convert)


def test_an_output_inside_the_photos_is_refused(photos: Path, edge_convert: EdgeConvert) -> None:
    """Its golden samples would be a class of the next training."""
    outcome = edge_convert("train", photos, photos / "model")
    assert outcome.code == 2
    assert "must not be inside each other" in outcome.err
    assert not (photos / "model").exists()


@pytest.mark.parametrize("to", ["model.tflite", "model.tflite/inside.tflite"])
def test_a_file_in_the_place_of_the_saved_model_is_refused(to: str, photos: Path, edge_convert: EdgeConvert) -> None:
    """Before the training, which takes minutes."""
    outcome = edge_convert("train", photos, photos.parent / "model.tflite", "--to", photos.parent / to)
    assert outcome.code == 2
    assert f"--to {photos.parent / to} is the SavedModel or inside it" in outcome.err
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]


def test_a_folder_that_does_not_exist_is_named(photos: Path, edge_convert: EdgeConvert) -> None:
    assert f"{photos / 'absent'} is not a folder. Give" in _refused_inside(photos / "absent", edge_convert)


def test_an_output_without_a_name_is_refused(
    photos: Path, trained: Trained, edge_convert: EdgeConvert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.request.output)
    outcome = edge_convert("train", photos, ".", "--force")
    assert outcome.code == 2
    assert "is not the name of a new folder" in outcome.err


def test_photos_without_class_folders_are_refused(photos: Path, edge_convert: EdgeConvert) -> None:
    assert "has no class folders" in _refused_inside(photos / "disk", edge_convert)


def test_a_photo_next_to_the_class_folders_is_named(photos: Path, edge_convert: EdgeConvert) -> None:
    shutil.copy(photos / "disk" / "00.png", photos / "lost.png")
    assert "photos next to its class folders (lost.png)" in _refused(photos, edge_convert)


def test_an_output_that_is_something_else_is_kept(photos: Path, edge_convert: EdgeConvert) -> None:
    (photos.parent / "model").mkdir()
    (photos.parent / "model" / "letter.txt").write_text("dear")
    outcome = edge_convert("train", photos, photos.parent / "model", "--force")
    assert outcome.code == 2
    assert "already exists and is not a SavedModel" in outcome.err
    assert (photos.parent / "model" / "letter.txt").read_text() == "dear"


def _refused_inside(photos: Path, edge_convert: EdgeConvert) -> str:
    outcome = edge_convert("train", photos, photos.parents[1] / "model")
    assert outcome.code == 1
    return outcome.err


def test_unreadable_photos_are_named_and_left_out(photos: Path) -> None:
    (photos / "grid" / "bad.jpg").write_bytes(b"no image")
    dataset = open_dataset(photos, track=untracked)
    assert len(dataset.photos) == 24
    (finding, *_) = dataset.findings
    assert "1 photo cannot be read" in str(finding)
    assert "grid/bad.jpg" in str(finding)


def test_copies_are_kept_on_one_side_and_reported(photos: Path) -> None:
    for number in range(4):
        shutil.copy(photos / "disk" / "00.png", photos / "disk" / f"copy{number}.png")
    dataset = open_dataset(photos, track=untracked)
    assert any("copies of others" in str(finding) for finding in dataset.findings)
    for seed in range(5):
        divided = partition(dataset, held_out=0.2, seed=seed)
        sides = ["train" if at in set(divided.train.tolist()) else "held out" for at in range(len(dataset.photos))]
        assert len({side for side, photo in zip(sides, dataset.photos, strict=True) if "copy" in photo.name}) == 1


def test_most_photos_of_a_class_are_trained_on_if_many_are_copies(photos: Path) -> None:
    for number in range(20):
        shutil.copy(photos / "disk" / "00.png", photos / "disk" / f"copy{number}.png")
    dataset = open_dataset(photos, track=untracked)
    for seed in range(5):
        divided = partition(dataset, held_out=0.2, seed=seed)
        assert "disk/00.png" in {dataset.photos[at].name for at in divided.train}


def test_a_camera_that_does_not_move_can_be_trained_with_and_its_figures_are_doubted(photos: Path) -> None:
    scene = cv2.imread(str(photos / "disk" / "00.png"))
    assert scene is not None
    (photos / "empty").mkdir()
    for number in range(20):
        cv2.imwrite(str(photos / "empty" / f"{number:02}.png"), cv2.add(scene, np.full_like(scene, number)))
    dataset = open_dataset(photos, track=untracked)
    assert "figures of the class are too good" in str(dataset.findings[-1])
    divided = partition(dataset, held_out=0.2, seed=0)
    empty = dataset.labels.index("empty")
    assert (dataset.truth[divided.held_out] == empty).sum() == 4


def test_a_pipe_is_named_and_does_not_block(photos: Path) -> None:
    os.mkfifo(photos / "grid" / "pipe.jpg")
    (finding, *_) = open_dataset(photos, track=untracked).findings
    assert "grid/pipe.jpg" in str(finding)
    assert "not a regular file" in str(finding)


def test_the_same_photo_in_two_classes_is_named(photos: Path) -> None:
    shutil.copy(photos / "disk" / "00.png", photos / "grid" / "disk.png")
    dataset = open_dataset(photos, track=untracked)
    assert any("folders of different classes" in str(finding) for finding in dataset.findings)


def test_split_folders_are_used_as_such(shapes: Path, tmp_path: Path) -> None:
    for part, numbers in {"train": range(5), "val": range(5, 7), "test": range(7, 8)}.items():
        for path in shapes.rglob("*.png"):
            if int(path.stem) in numbers:
                target = tmp_path / "set" / part / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    leak = tmp_path / "set" / "train" / "disk" / "leak.png"
    shutil.copy(tmp_path / "set" / "test" / "disk" / "07.png", leak)
    dataset = open_dataset(tmp_path / "set", track=untracked)
    divided = partition(dataset, held_out=0.2, seed=0)
    assert divided.test is not None
    assert [len(side) for side in (divided.train, divided.held_out, divided.test)] == [15, 6, 3]
    assert "train/disk/leak.png" in str(divided.findings[0])


def test_a_class_that_only_one_split_has_is_named(shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "set" / "train")
    shutil.copytree(shapes / "disk", tmp_path / "set" / "test" / "disk")
    dataset = open_dataset(tmp_path / "set", track=untracked)
    with pytest.raises(ImagesError, match="is left for"):
        partition(dataset, held_out=0.2, seed=0)

"""Class folders without a readable image: refused as labels, and otherwise named in a note."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from conversions import QUIET, converted, write_labels

from converter.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(*QUIET)


def emptied(folder: Path) -> None:
    for image in folder.iterdir():
        image.unlink()


def with_only_heic(folder: Path) -> None:
    emptied(folder)
    (folder / "1.heic").write_bytes(b"\0\0\0\x18ftypheic")


def damaged(folder: Path) -> None:
    for image in folder.iterdir():
        image.write_bytes(image.read_bytes()[:40])


@pytest.fixture
def images(color_images: Path, tmp_path: Path) -> Path:
    return shutil.copytree(color_images, tmp_path / "images")


@pytest.mark.parametrize("spoil", [emptied, with_only_heic])
@pytest.mark.parametrize("extra", [False, True])
def test_folder_without_images_is_named_when_the_labels_come_from_folders(
    spoil: Callable[[Path], None], *, extra: bool, small_saved_model: Path, images: Path, tmp_path: Path
) -> None:
    """Also if as many other folders as outputs are left, because Keras counts the empty folder as a class."""
    if extra:
        shutil.copytree(images / "red", images / "cyan")
    spoil(images / "gray")
    with pytest.raises(UsageError) as raised:
        converted(small_saved_model, tmp_path / "m.tflite", "int8", calibration=images)
    names = "blue, cyan, green, red" if extra else "blue, green, red"
    assert f"class folders: {names} (and gray without a readable image)" in str(raised.value)


@pytest.mark.parametrize("spoil", [with_only_heic, damaged])
def test_class_without_readable_images_is_named_in_notes_when_labels_are_given(
    spoil: Callable[[Path], None], small_saved_model: Path, images: Path, tmp_path: Path
) -> None:
    spoil(images / "gray")
    labels = write_labels(tmp_path / "labels.txt", ("blue", "gray", "green", "red"))
    folders: dict[str, Any] = {"calibration": images, "evaluation": images, "golden": images}
    conversion = converted(small_saved_model, tmp_path / "m.tflite", "int8", labels=labels, **folders)
    end = f"in {images} for gray: no file there can be read as an image (JPEG, PNG, WebP, BMP and GIF)."
    notes = [note for note in conversion.notes if note.startswith("No ")]
    assert notes[0] == f"No calibration images {end}"
    assert notes[-1] == f"No images {end}"
    assert (f"No golden samples {end}" in notes) == (spoil is with_only_heic)

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest
from collection.material import FRONT, add, folder_with, ulid

from agent.collection.archive import archive, folder_name

if TYPE_CHECKING:
    from pathlib import Path


def test_archive_has_one_folder_per_label_with_each_picture_and_its_result(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    add(folder, FRONT, 1_800_000_000, label="robin")
    add(folder, FRONT, 1_800_000_001, label="../etc/passwd")
    add(folder, FRONT, 2, label="robin")
    add(folder, FRONT, 3)
    folder.frames()[-1].jpeg.with_name(f"{ulid(3)}.json").write_bytes(b"damaged")
    content = b"".join(archive(folder.frames()))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None
        names = file.namelist()
        assert [name for name in names if name.endswith(".jpg")] == [
            f"etc_passwd_{folder_name('../etc/passwd')[-8:]}/{ulid(1_800_000_001)}.jpg",
            f"robin/{ulid(1_800_000_000)}.jpg",
            f"unlabeled/{ulid(3)}.jpg",
            f"robin/{ulid(2)}.jpg",
        ]
        assert [name.removesuffix(".json") + ".jpg" for name in names if name.endswith(".json")] == names[::2]
        assert file.read(names[0]) == b"j" * 100
        assert json.loads(file.read(names[1]))["best"] == {"label": "../etc/passwd"}
        assert [info.date_time[0] for info in file.infolist()[::2]] == [2027, 2027, 1980, 1980]


def test_archive_is_made_in_parts_and_leaves_out_frames_that_vanish(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, *((FRONT, second) for second in range(5)))
    frames = folder.frames()
    parts = archive(frames)
    first = next(parts)
    assert 100 < len(first) < 600
    folder.remove(frames[2])
    with zipfile.ZipFile(io.BytesIO(first + b"".join(parts))) as file:
        assert len(file.namelist()) == 8


def test_archive_has_frames_of_a_clock_that_was_wrong(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 4_400_000_000), (FRONT, 280_000_000_000))  # in 2109 and after 9999
    with zipfile.ZipFile(io.BytesIO(b"".join(archive(folder.frames())))) as file:
        assert [info.date_time[0] for info in file.infolist()] == [2107] * 4


def test_archive_without_frames_is_an_empty_zip_file() -> None:
    with zipfile.ZipFile(io.BytesIO(b"".join(archive([])))) as file:
        assert file.namelist() == []


@pytest.mark.parametrize("label", ["robin", "great tit", "Star (Vogel)", "Rotkehlchen", "猫"])
def test_folder_has_the_name_of_its_label(label: str) -> None:
    assert folder_name(label) == label


@pytest.mark.parametrize(
    "label", ["", ".", "..", "../x", "a/b", "a\\b", "C:", "a\0b", " a", "a.", "\ud800", "x" * 300, "a\nb"]
)
def test_folder_of_an_unsafe_label_is_safe_and_different(label: str) -> None:
    name = folder_name(label)
    assert name != label
    assert not set(name) & set('/\\:\0\n<>"|?*')
    assert name.strip(" .") == name
    assert 8 <= len(name.encode()) <= 120
    assert name.encode()


def test_two_labels_never_share_a_folder() -> None:
    labels = ["a/b", "a_b", "a:b", ".a_b", "", "_", " "]
    assert len({folder_name(label) for label in labels}) == len(labels)

from __future__ import annotations

import json
import os
import resource
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from collection.material import FRONT, add, folder_with, ulid

from agent.classification import Spot
from agent.collection.folder import CollectionFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOOR = Spot("front", "door")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_frame_is_kept_with_its_result_for_the_user_of_the_agent_only(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1), (DOOR, 2))
    assert names(tmp_path / "collection") == [
        f"front~/{ulid(1)}.jpg",
        f"front~/{ulid(1)}.json",
        f"front~door/{ulid(2)}.jpg",
        f"front~door/{ulid(2)}.json",
    ]
    (newest, _) = folder.frames()
    assert (newest.id, newest.spot, newest.size, newest.captured_s) == (ulid(2), DOOR, 100, 2.0)
    assert newest.document() == {"id": ulid(2), "best": {"label": "robin"}}
    assert newest.jpeg.read_bytes() == b"j" * 100
    for path in (tmp_path / "collection", tmp_path / "collection/front~"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_frames_are_those_of_a_camera_or_of_a_view_newest_first(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 3), (DOOR, 4), (Spot("back"), 1), (Spot("back"), 5))
    assert [frame.captured_s for frame in folder.frames()] == [5, 4, 3, 1]
    assert [frame.captured_s for frame in folder.frames(camera="front")] == [4, 3]
    assert [frame.captured_s for frame in folder.frames(camera="front", view="door")] == [4]
    assert folder.frames(camera="side") == []
    assert (folder.newest_s(Spot("back")), folder.newest_s(Spot("side"))) == (5, None)


def test_folder_that_does_not_exist_has_no_frames(tmp_path: Path) -> None:
    folder = CollectionFolder(tmp_path / "collection")
    assert (folder.frames(), folder.find(ulid(1))) == ([], None)


def test_oldest_frames_of_the_view_are_removed_beyond_its_limit(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (DOOR, 1))
    for second in (4, 2, 3, 5):
        add(folder, FRONT, second, max_bytes=400)  # each has 100 bytes and its JSON
    assert [(frame.spot, frame.captured_s) for frame in folder.frames()] == [(FRONT, 5), (FRONT, 4), (DOOR, 1)]
    assert len(names(tmp_path / "collection/front~")) == 4
    add(folder, FRONT, 6, max_bytes=1)
    assert [frame.captured_s for frame in folder.frames(camera="front", view=None)] == [6, 1]


def test_frame_is_found_by_its_id_only_and_removed(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1), (DOOR, 2))
    for bad in ("", "..", "x" * 26, f"../front~/{ulid(1)}", ulid(3)):
        assert folder.find(bad) is None
    frame = folder.find(ulid(2))
    assert frame is not None
    for _ in range(2):
        folder.remove(frame)
    assert folder.find(ulid(2)) is None
    assert names(tmp_path / "collection/front~door") == []


def test_camera_with_a_strange_name_stays_in_the_folder(tmp_path: Path) -> None:
    folder_with(tmp_path, (Spot(".."), 1), (Spot("..", ".."), 2))
    assert {path.name for path in (tmp_path / "collection").iterdir()} == {"..~", "..~.."}


def test_remains_of_a_power_cut_are_no_frames_and_are_removed(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1))
    place = tmp_path / "collection/front~"
    (place / f"{ulid(2)}.json").write_text("{}")
    (place / f".{ulid(3)}.jpg.new").write_bytes(b"half")
    assert [frame.captured_s for frame in folder.frames()] == [1]
    add(folder, FRONT, 4)
    assert len(names(place)) == 4


@pytest.mark.parametrize("damaged", [b"", b"[1]", b"\xff", b"[" * 100_000, b'{"score": NaN}', b'{"label": "\\ud800"}'])
def test_damaged_result_leaves_the_picture(tmp_path: Path, damaged: bytes) -> None:
    folder = folder_with(tmp_path, (FRONT, 1))
    frame = folder.frames()[0]
    frame.json.write_bytes(damaged)
    assert frame.document() == {"id": ulid(1)}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limits files to `size` bytes, so that a write fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_failed_write_leaves_no_frame(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (FRONT, 1))
    with largest_file(80), pytest.raises(OSError, match="File too large"):
        add(folder, FRONT, 2)
    assert [frame.captured_s for frame in folder.frames()] == [1]
    add(folder, FRONT, 3)
    assert len(names(tmp_path / "collection/front~")) == 4


def test_nothing_is_written_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    folder = CollectionFolder(tmp_path / "collection", reserve_bytes=1 << 60)
    with pytest.raises(OSError, match="MB are free"):
        add(folder, FRONT, 1)
    assert names(tmp_path) == []


def test_frames_that_vanish_while_the_folder_is_read_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, (FRONT, 1), (FRONT, 2))
    scan = os.scandir

    def scan_late(path: Path) -> Iterator[os.DirEntry[str]]:
        found = scan(path)
        (tmp_path / f"collection/front~/{ulid(1)}.jpg").unlink(missing_ok=True)
        return found

    monkeypatch.setattr("agent.collection.folder.os.scandir", scan_late)
    assert [frame.captured_s for frame in folder.frames()] == [2]
    assert json.loads((tmp_path / f"collection/front~/{ulid(2)}.json").read_bytes())["id"] == ulid(2)

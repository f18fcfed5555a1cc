from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from agent.errors import ModelError, StoreError
from agent.models.store import Store, write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

CONTENT = b"model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "copies", max_bytes=1 << 20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(CONTENT)
    return path


def names(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_copy_is_named_by_its_hash_and_read_only(store: Store, source: Path) -> None:
    copy = store.put(source)
    assert (copy.sha256, copy.size) == (SHA256, len(CONTENT))
    assert names(store) == [f"{SHA256}.tflite"]
    assert store.path(SHA256).stat().st_mode & 0o777 == 0o444
    assert store.read(SHA256) == CONTENT


def test_copy_is_another_file_than_the_dropped_one(store: Store, source: Path) -> None:
    store.put(source)
    with source.open("r+b") as file:
        file.write(b"overwritten")
    source.unlink()
    assert store.read(SHA256) == CONTENT


def test_the_same_bytes_again_are_not_written_again(store: Store, source: Path) -> None:
    store.put(source)
    inode = store.path(SHA256).stat().st_ino
    store.put(source)
    assert store.path(SHA256).stat().st_ino == inode
    assert names(store) == [f"{SHA256}.tflite"]


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"", b"MODEL" + CONTENT[5:]])
def test_copy_that_was_damaged_is_told_and_put_again(store: Store, source: Path, damage: bytes) -> None:
    store.put(source)
    store.path(SHA256).chmod(0o644)
    store.path(SHA256).write_bytes(damage)
    with pytest.raises(StoreError, match="was damaged and is removed"):
        store.read(SHA256)
    assert not store.has(SHA256)
    store.put(source)
    assert store.read(SHA256) == CONTENT


def test_copy_that_is_gone_is_told(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        store.read(SHA256)


def test_only_what_is_wanted_is_kept_and_nothing_half_written(store: Store, source: Path) -> None:
    store.put(source)
    source.write_bytes(b"other")
    other = store.put(source).sha256
    (store.folder / ".incoming-left").write_bytes(b"half")
    (store.folder / "notes.md").write_bytes(b"of somebody else")
    store.keep_only({other})
    assert names(store) == sorted([f"{other}.tflite", "notes.md"])
    Store(store.folder / "none", max_bytes=1).keep_only(set())


def test_file_above_the_limit_is_refused_and_leaves_nothing(store: Store, source: Path) -> None:
    with source.open("wb") as file:
        file.truncate(1 << 40)  # a hole: nothing is on the disk
    with pytest.raises(ModelError, match=r"more than 1 MB.*models\.max_mb"):
        store.put(source)
    assert not store.folder.exists()


def test_file_that_grows_beyond_the_limit_while_it_is_read_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "copies", max_bytes=len(CONTENT) - 1)
    fstat = os.fstat

    def before_it_grew(descriptor: int) -> os.stat_result:
        values = list(fstat(descriptor))
        values[6] = 1
        return os.stat_result(values)

    monkeypatch.setattr("agent.models.store.os.fstat", before_it_grew)
    with pytest.raises(ModelError, match="more than"):
        store.put(source)
    assert names(store) == []


def test_what_takes_the_place_of_the_file_is_refused_without_waiting(store: Store, source: Path) -> None:
    link, fifo, folder, nothing = (source.with_name(name) for name in ("link", "fifo", "folder", "nothing"))
    link.symlink_to(source)
    os.mkfifo(fifo)
    folder.mkdir()
    for path in (link, fifo, folder, nothing):
        with pytest.raises(ModelError, match="cannot be read"):
            store.put(path)


@pytest.mark.parametrize(("number", "kind"), [(13, ModelError), (5, StoreError)])
def test_source_that_fails_in_the_middle_is_refused_or_tried_again_and_leaves_nothing(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    class Failing:
        def __init__(self) -> None:
            self._file = source.open("rb")

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def fileno(self) -> int:
            return self._file.fileno()

        def read(self, _: int) -> bytes:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("agent.models.store.open_plain_file", lambda _: Failing())
    with pytest.raises(kind, match=f"m.tflite cannot be read: {os.strerror(number)}"):
        store.put(source)
    assert names(store) == []


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["os.fsync", "Path.replace", "tempfile.mkstemp"])
def test_disk_that_takes_no_more_is_the_stores_trouble_and_leaves_nothing(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"agent.models.store.{call}", full_disk)
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device\. What is served stays"):
            store.put(source)
        assert names(store) == []
    assert store.put(source).sha256 == SHA256


def test_copy_leaves_room_on_the_disk(store: Store, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = len(CONTENT) + (16 << 20) - 1

    monkeypatch.setattr("agent.models.store.shutil.disk_usage", lambda _: Usage)
    with pytest.raises(StoreError, match="No space left"):
        store.put(source)
    Usage.free += 1
    store.put(source)


def test_document_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "document.json"
    write_durably(path, b"one")
    with monkeypatch.context() as patch:
        patch.setattr("agent.models.store.Path.replace", full_disk)
        with pytest.raises(StoreError):
            write_durably(path, b"two")
    assert path.read_bytes() == b"one"
    write_durably(path, b"three")
    assert path.read_bytes() == b"three"
    assert [each.name for each in path.parent.iterdir()] == ["document.json"]


def test_disk_that_does_not_tell_is_not_taken_for_one_without_the_copy(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(source)

    def refuse(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("agent.models.store.Path.stat", refuse)
    assert store.has(SHA256)

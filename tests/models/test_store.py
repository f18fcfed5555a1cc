from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import ModelError, StoreError
from agent.models.store import Store, write_durably

if TYPE_CHECKING:
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


def test_copy_is_independent_of_the_dropped_file(store: Store, source: Path) -> None:
    store.put(source)
    with source.open("r+b") as file:
        file.write(b"overwritten")
    source.unlink()
    assert store.read(SHA256) == CONTENT


def test_put_does_not_rewrite_an_existing_copy(store: Store, source: Path) -> None:
    store.put(source)
    inode = store.path(SHA256).stat().st_ino
    store.put(source)
    assert store.path(SHA256).stat().st_ino == inode
    assert names(store) == [f"{SHA256}.tflite"]


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"", b"MODEL" + CONTENT[5:]])
def test_damaged_copy_is_removed_and_can_be_stored_again(store: Store, source: Path, damage: bytes) -> None:
    store.put(source)
    store.path(SHA256).chmod(0o644)
    store.path(SHA256).write_bytes(damage)
    with pytest.raises(StoreError, match="was damaged and has been removed"):
        store.read(SHA256)
    assert not store.has(SHA256)
    store.put(source)
    assert store.read(SHA256) == CONTENT


def test_read_fails_when_the_copy_is_missing(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        store.read(SHA256)


def test_sweep_keeps_wanted_copies_and_removes_incomplete_ones(store: Store, source: Path) -> None:
    store.put(source)
    source.write_bytes(b"other")
    other = store.put(source).sha256
    (store.folder / ".incoming-left").write_bytes(b"half")
    (store.folder / "notes.md").write_bytes(b"not from the store")
    store.keep_only({other})
    assert names(store) == sorted([f"{other}.tflite", "notes.md"])
    Store(store.folder / "none", max_bytes=1).keep_only(set())


def test_put_leaves_nothing_when_the_file_is_too_large(store: Store, source: Path) -> None:
    with source.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: uses no disk space
    with pytest.raises(ModelError, match=r"larger than 1 MB.*models\.max_mb"):
        store.put(source)
    assert not store.folder.exists()


def test_put_refuses_a_file_that_is_larger_than_its_stated_size(tmp_path: Path) -> None:
    store = Store(tmp_path / "copies", max_bytes=10)
    with pytest.raises(ModelError, match="larger than"):
        store.put(Path("/proc/version"))  # its stated size is 0, like a file that has grown since
    assert names(store) == []


def test_put_refuses_a_source_that_is_not_a_regular_file(store: Store, source: Path) -> None:
    link, fifo, folder, nothing = (source.with_name(name) for name in ("link", "fifo", "folder", "nothing"))
    link.symlink_to(source)
    os.mkfifo(fifo)
    folder.mkdir()
    for path in (link, fifo, folder, nothing):
        with pytest.raises(ModelError, match="cannot be read"):
            store.put(path)


@pytest.mark.parametrize(("number", "kind"), [(13, ModelError), (5, StoreError)])
def test_put_leaves_nothing_when_reading_the_source_fails(
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

    monkeypatch.setattr("agent.models.store.open_plain_file", lambda _, **__: Failing())
    with pytest.raises(kind, match=f"m.tflite cannot be read: {os.strerror(number)}"):
        store.put(source)
    assert names(store) == []


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["os.fsync", "Path.replace", "tempfile.mkstemp"])
def test_put_raises_a_store_error_and_leaves_nothing_when_the_disk_is_full(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"agent.models.store.{call}", full_disk)
        with pytest.raises(StoreError, match=r"Cannot write to .*: No space left on device\. Serving continues"):
            store.put(source)
        assert names(store) == []
    assert store.put(source).sha256 == SHA256


def test_copy_leaves_room_on_the_disk(tmp_path: Path, source: Path) -> None:
    free = len(CONTENT) + (16 << 20) - 1
    store = Store(tmp_path / "copies", max_bytes=1 << 20, free_on_disk=lambda _: free)
    with pytest.raises(StoreError, match="No space left"):
        store.put(source)
    free += 1
    store.put(source)


def test_document_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "document.json"
    write_durably(path, b"one")
    obstacle = path.with_name(".document.json.new")
    obstacle.mkdir()
    with pytest.raises(StoreError):
        write_durably(path, b"two")
    obstacle.rmdir()
    assert path.read_bytes() == b"one"
    write_durably(path, b"three")
    assert path.read_bytes() == b"three"
    assert [each.name for each in path.parent.iterdir()] == ["document.json"]


def test_store_reports_a_copy_as_present_when_the_disk_does_not_respond(store: Store) -> None:
    store.folder.mkdir(parents=True)
    store.path(SHA256).symlink_to(store.path(SHA256))  # a link loop: stat() fails, but not with "not found"
    assert store.has(SHA256)

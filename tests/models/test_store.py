from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import ModelError, StoreError
from agent.host.digest import manifest_of, sha256_of_folder
from agent.models.store import Store, write_durably
from agent.models.tree import tree_of

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with two files."""
    path = tmp_path / "1"
    for name, content in {"saved_model.pb": b"graph" * 100, "variables/variables.index": b"index"}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def put(store: Store, saved: Path) -> str:
    return store.put_folder(saved, tree_of(saved, saved.parent), root=saved.parent).sha256


def test_folder_is_named_by_the_hash_of_its_manifest_and_its_files_are_read_only(store: Store, saved: Path) -> None:
    digest = put(store, saved)
    assert digest == sha256_of_folder(saved)
    assert names(store) == [f"{digest}.savedmodel"]
    assert store.read(digest) == store.path(digest) == store.folder / f"{digest}.savedmodel"
    assert manifest_of(store.path(digest)) == manifest_of(saved)
    assert {path.stat().st_mode & 0o777 for path in store.path(digest).rglob("*") if path.is_file()} == {0o444}
    assert store.has(digest)
    shutil.rmtree(saved)
    assert store.read(digest) == store.path(digest)


def test_folder_that_exists_is_not_rewritten(store: Store, saved: Path) -> None:
    digest = put(store, saved)
    inode = store.path(digest).stat().st_ino
    put(store, saved)
    assert store.path(digest).stat().st_ino == inode
    assert names(store) == [f"{digest}.savedmodel"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "saved_model.pb").unlink(),
        lambda path: (path / "more").write_bytes(b"x"),
        lambda path: _overwrite(path / "saved_model.pb", b"grapx" * 100),
        lambda path: _overwrite(path / "variables/variables.index", b""),
    ],
)
def test_damaged_folder_is_removed_and_can_be_stored_again(
    store: Store, saved: Path, damage: Callable[[Path], object]
) -> None:
    digest = put(store, saved)
    damage(store.path(digest))
    with pytest.raises(StoreError, match="was damaged and has been removed"):
        store.read(digest)
    assert not store.has(digest)
    assert names(store) == []
    put(store, saved)
    damage(store.path(digest))
    put(store, saved)
    assert store.read(digest) == store.path(digest)


def _overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_sweep_keeps_wanted_folders_and_removes_others_and_incomplete_ones(store: Store, saved: Path) -> None:
    old = put(store, saved)
    (saved / "saved_model.pb").write_bytes(b"newer")
    new = put(store, saved)
    (store.folder / ".incoming-left" / "variables").mkdir(parents=True)
    (store.folder / ".incoming-left" / "variables" / "half").write_bytes(b"half")
    store.keep_only({new})
    assert names(store) == [f"{new}.savedmodel"]
    assert old != new
    store.keep_only(set())
    assert names(store) == []


def test_sweep_goes_on_after_a_folder_that_cannot_be_removed(
    store: Store, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, saved)
    for number in range(10):
        (store.folder / f"{number:064}.tflite").touch()
        (store.folder / f".incoming-{number}").mkdir()

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("agent.models.store.shutil.rmtree", refused)
    store.keep_only(set())
    assert all(name.startswith(".incoming-") for name in names(store))


def test_folder_larger_than_allowed_is_refused(tmp_path: Path, saved: Path) -> None:
    store = Store(tmp_path / "copies", max_bytes=504)
    with pytest.raises(ModelError, match=r"larger than .* raise models\.max_mb"):
        put(store, saved)
    assert not store.folder.exists()


def test_folder_that_grows_while_it_is_copied_is_refused(tmp_path: Path, saved: Path) -> None:
    store, tree = Store(tmp_path / "copies", max_bytes=505), tree_of(saved, tmp_path)
    (saved / "variables/variables.index").write_bytes(b"index.")
    with pytest.raises(ModelError, match="larger than"):
        store.put_folder(saved, tree, root=tmp_path)
    assert names(store) == []


def test_unreadable_file_of_a_folder_is_named(store: Store, saved: Path) -> None:
    tree = tree_of(saved, saved.parent)
    (saved / "saved_model.pb").unlink()
    with pytest.raises(ModelError, match=r"1 cannot be read: No such file.*chmod -R a\+rX 1"):
        store.put_folder(saved, tree, root=saved.parent)
    assert names(store) == []


@pytest.mark.parametrize("call", ["os.fsync", "Path.replace", "tempfile.mkdtemp"])
def test_folder_leaves_nothing_when_the_disk_is_full(
    store: Store, saved: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"agent.models.store.{call}", full_disk)
        with pytest.raises(StoreError, match=r"Cannot write to .*: No space left on device\. Serving continues"):
            put(store, saved)
        assert names(store) == []
    assert put(store, saved) == sha256_of_folder(saved)

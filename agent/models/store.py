"""Store: the agent's own copies of models, named by their SHA-256 and never changed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, BinaryIO

from agent.errors import StoreError
from agent.host.digest import sha256_of, sha256_of_folder
from agent.host.durable import flush_folder, replace_file
from agent.host.plain_file import open_plain_file
from agent.models.copying import Copy, copy_file, copy_files, source_errors, too_large

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from agent.models.tree import Tree

_RESERVE = 16 << 20  # bytes that a copy leaves free on the disk, for the history and other programs
_INCOMING = ".incoming-"
_FILE, _FOLDER = _ENDINGS = (".tflite", ".savedmodel")


def copies_of(state_folder: Path) -> Path:
    """The folder with the copies of an agent."""
    return state_folder / "models/copies"


def has_copies(state_folder: Path) -> bool:
    """Whether an agent has a copy of any model that it can read."""
    try:
        with os.scandir(copies_of(state_folder)) as entries:
            return any(entry.name.endswith(_ENDINGS) for entry in entries)
    except OSError:
        return False


class Store:
    """`<folder>/<sha256>.tflite`, and the folder `<sha256>.savedmodel` named by the hash of its manifest.

    Every method blocks on the disk; only one thread at a time may call put() and put_folder().
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, free_on_disk: Callable[[Path], int] = lambda path: disk_usage(path).free
    ) -> None:
        """`folder` need not exist yet: a disk that is read-only now may be writable later."""
        self.folder = folder
        self._max_bytes = max_bytes
        self._free_on_disk = free_on_disk

    def path(self, sha256: str) -> Path:
        """Where the copy is: a folder if that exists, otherwise a file."""
        folder = self._folder_of(sha256)
        return folder if os.path.isdir(folder) else self.folder / f"{sha256}{_FILE}"  # noqa: PTH112  (raises nothing)

    def _folder_of(self, sha256: str) -> Path:
        return self.folder / f"{sha256}{_FOLDER}"

    def has(self, sha256: str) -> bool:
        """Also true if the disk does not respond: False means that the copy is certainly gone."""
        try:
            self.path(sha256).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def put(self, source: Path, *, root: Path | None = None) -> Copy:
        """Copies `source`, which may be a link inside `root`.

        Raises ModelError if something is wrong with it, StoreError if something is wrong here.
        The copy gets its name by a rename after its bytes are on the disk, so a power cut leaves the whole copy or
        none.
        """
        with source_errors(source), open_plain_file(source, root=root) as file:
            size = os.fstat(file.fileno()).st_size
            if size > self._max_bytes:
                raise too_large(self._max_bytes)
            with self._written(size) as (incoming, name):
                copy = copy_file(file, incoming, max_bytes=self._max_bytes)
                if self._is_whole(copy.sha256):
                    return copy
                name.replace(self.path(copy.sha256))
                flush_folder(self.folder)
                return copy

    def put_folder(self, source: Path, tree: Tree, *, root: Path | None = None) -> Copy:
        """Like put() for the files of `tree`, which are in the folder `source`."""
        if tree.size > self._max_bytes:
            raise too_large(self._max_bytes)
        with source_errors(source), self._written_folder(tree.size) as incoming:
            copy = copy_files(source, tree.files, incoming, root=root, max_bytes=self._max_bytes)
            if self._is_whole(copy.sha256):
                return copy
            folder = self._folder_of(copy.sha256)
            self._remove(folder)
            incoming.chmod(0o755)
            incoming.replace(folder)
            flush_folder(self.folder)
            return copy

    def read(self, sha256: str) -> bytes | Path:
        """The bytes that were stored, or the path of the stored folder, all of whose files are intact.

        Raises StoreError; a copy that was damaged since is removed.
        """
        path = self.path(sha256)
        stored: bytes | Path
        try:
            if path.suffix == _FOLDER:
                stored, found = path, sha256_of_folder(path)
            else:
                stored = path.read_bytes()
                found = hashlib.sha256(stored).hexdigest()
        except OSError as error:
            raise StoreError(
                f"The stored model {path} cannot be read: {error.strerror}. The agent retries automatically."
            ) from error
        if found != sha256:
            with suppress(OSError):
                self._remove(path)
            raise StoreError(f"The stored model {path} was damaged and has been removed. Check the disk.")
        return stored

    def _is_whole(self, sha256: str) -> bool:
        """Whether the copy exists and is intact: a disk may lose data."""
        path = self.path(sha256)
        try:
            if path.suffix == _FOLDER:
                return sha256_of_folder(path) == sha256
            with path.open("rb") as file:
                return sha256_of(file) == sha256
        except OSError:
            return False

    def _remove(self, path: Path) -> None:
        """Renames a folder first, because its removal may be interrupted. Raises OSError."""
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        elif path.name.startswith(_INCOMING):
            shutil.rmtree(path)
        else:
            leftover = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.folder))
            path.replace(leftover)
            shutil.rmtree(leftover)

    def keep_only(self, wanted: Collection[str]) -> None:
        """Removes every other copy and the leftovers of interrupted put() calls. Ignores what cannot be removed."""
        names = {f"{sha256}{ending}" for sha256 in wanted for ending in _ENDINGS}
        with suppress(OSError):
            for path in list(self.folder.iterdir()):
                if path.name not in names and (path.suffix in _ENDINGS or path.name.startswith(_INCOMING)):
                    with suppress(OSError):
                        self._remove(path)

    @contextmanager
    def _written(self, size: int) -> Iterator[tuple[BinaryIO, Path]]:
        """A new file in the store, removed at the end unless it was renamed."""
        with _store_errors(self.folder):
            self._make_room(size)
            descriptor, name = tempfile.mkstemp(prefix=_INCOMING, dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as incoming:
                    yield incoming, Path(name)
            finally:
                with suppress(OSError):
                    Path(name).unlink()

    @contextmanager
    def _written_folder(self, size: int) -> Iterator[Path]:
        """A new folder in the store, removed at the end unless it was renamed."""
        with _store_errors(self.folder):
            self._make_room(size)
            incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.folder))
            try:
                yield incoming
            finally:
                shutil.rmtree(incoming, ignore_errors=True)

    def _make_room(self, size: int) -> None:
        """Raises OSError if the folder cannot be made, or if the disk has less space than a copy needs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._free_on_disk(self.folder) < size + _RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _store_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(unwritable(folder, error)) from error


def unwritable(folder: Path, error: OSError) -> str:
    """The message for a disk that cannot be written."""
    return (
        f"Cannot write to {folder}: {error.strerror}. Serving continues; new models wait. Free some space or give "
        "the agent's user write access; it retries automatically."
    )


def write_durably(path: Path, content: bytes) -> None:
    """Replaces the file as a whole or not at all, even in a power cut. Raises StoreError."""
    with _store_errors(path.parent):
        replace_file(path, content)

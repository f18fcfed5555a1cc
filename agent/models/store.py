"""Store: the agent's own copies of model files, named by their SHA-256, which nobody changes any more."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, BinaryIO

from agent.errors import ModelError, StoreError
from agent.host.digest import sha256_of
from agent.host.durable import flush_folder, replace_file
from agent.host.plain_file import open_plain_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_CHUNK = 1 << 20
_RESERVE = 16 << 20  # bytes of the disk that a copy leaves free, for the history and everybody else
_INCOMING = ".incoming-"
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)  # nothing that the file could help


def copies_of(state_folder: Path) -> Path:
    """Where an agent keeps them."""
    return state_folder / "models/copies"


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that is whole and flushed to the disk under its name in the store."""

    sha256: str
    size: int


class Store:
    """`<folder>/<sha256>.tflite`. Every method blocks on the disk; one thread at a time may put()."""

    def __init__(
        self, folder: Path, *, max_bytes: int, free_on_disk: Callable[[Path], int] = lambda path: disk_usage(path).free
    ) -> None:
        """`folder` need not exist yet: a disk that is read-only now may be another one later."""
        self.folder = folder
        self._max_bytes = max_bytes
        self._free_on_disk = free_on_disk

    def path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.tflite"

    def has(self, sha256: str) -> bool:
        """Also where the disk does not tell: that it is gone must be known."""
        try:
            self.path(sha256).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def put(self, source: Path) -> Copy:
        """Copies `source`, whole or not at all. Raises ModelError for what is wrong with it, StoreError with the disk.

        The file appears under its name by a rename, after its bytes are on the disk: a power cut leaves all or
        nothing.
        """
        with source_errors(source), open_plain_file(source) as file:
            size = os.fstat(file.fileno()).st_size
            if size > self._max_bytes:
                raise ModelError(_too_large(self._max_bytes))
            with self._written(size) as (incoming, name):
                copy = _copied(file, incoming, self._max_bytes)
                if self._is_whole(copy.sha256):
                    return copy
                os.fchmod(incoming.fileno(), 0o444)
                incoming.flush()
                os.fsync(incoming.fileno())
                name.replace(self.path(copy.sha256))
                flush_folder(self.folder)
                return copy

    def read(self, sha256: str) -> bytes:
        """The very bytes that were put. Raises StoreError; a copy that has become another one is removed."""
        try:
            content = self.path(sha256).read_bytes()
        except OSError as error:
            raise StoreError(
                f"The stored model {self.path(sha256)} cannot be read: {error.strerror}. It is tried again by itself."
            ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            with suppress(OSError):
                self.path(sha256).unlink()
            raise StoreError(f"The stored model {self.path(sha256)} was damaged and is removed. Check the disk.")
        return content

    def _is_whole(self, sha256: str) -> bool:
        """Whether the copy is there, and still what it was: a disk forgets."""
        try:
            with self.path(sha256).open("rb") as file:
                return sha256_of(file) == sha256
        except OSError:
            return False

    def keep_only(self, wanted: Collection[str]) -> None:
        """Removes every other copy, and what a put() left behind that did not end. What cannot go stays."""
        names = {f"{sha256}.tflite" for sha256 in wanted}
        with suppress(OSError):
            for path in list(self.folder.iterdir()):
                if path.name not in names and (path.suffix == ".tflite" or path.name.startswith(_INCOMING)):
                    path.unlink(missing_ok=True)

    @contextmanager
    def _written(self, size: int) -> Iterator[tuple[BinaryIO, Path]]:
        """A new file in the store, gone at the end unless it was renamed."""
        with _store_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._free_on_disk(self.folder) < size + _RESERVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            descriptor, name = tempfile.mkstemp(prefix=_INCOMING, dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as incoming:
                    yield incoming, Path(name)
            finally:
                with suppress(OSError):
                    Path(name).unlink()


class _SourceError(Exception):
    """Carries an OSError of the source through the handling of those of the store."""


def _copied(source: BinaryIO, target: BinaryIO, max_bytes: int) -> Copy:
    digest, size = hashlib.sha256(), 0
    while True:
        try:
            chunk = source.read(_CHUNK)
        except OSError as error:
            raise _SourceError from error
        if not chunk:
            return Copy(digest.hexdigest(), size)
        size += len(chunk)
        if size > max_bytes:  # it grows while it is read
            raise ModelError(_too_large(max_bytes))
        digest.update(chunk)
        target.write(chunk)


@contextmanager
def source_errors(source: Path) -> Iterator[None]:
    """Raises ModelError for a file that cannot be read, StoreError where that will pass by itself."""
    try:
        yield
    except (OSError, _SourceError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        words = f"{source.name} cannot be read: {getattr(cause, 'strerror', cause)}."
        if getattr(cause, "errno", None) in _PASSING:
            raise StoreError(f"{words} It is tried again by itself.") from error
        raise ModelError(f"{words} Let the agent's user read it: chmod a+r {source.name}.") from error


@contextmanager
def _store_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(unwritable(folder, error)) from error


def unwritable(folder: Path, error: OSError) -> str:
    """The sentence for a disk that does not take what is written to it."""
    return (
        f"{folder} cannot be written: {error.strerror}. What is served stays, new models wait. Free space, or let "
        "the agent's user write there; it is tried again by itself."
    )


def write_durably(path: Path, content: bytes) -> None:
    """Replaces the file at once or not at all, also in a power cut. Raises StoreError."""
    with _store_errors(path.parent):
        replace_file(path, content)


def _too_large(max_bytes: int) -> str:
    return f"The file has more than {max_bytes >> 20} MB. Drop a smaller model or raise models.max_mb."

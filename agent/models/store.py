"""Store: the agent's own copies of model files, named by their SHA-256 and never changed."""

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
from agent.host.plain_file import DISK_ERRORS, open_plain_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_CHUNK = 1 << 20
_RESERVE = 16 << 20  # bytes that a copy leaves free on the disk, for the history and other programs
_INCOMING = ".incoming-"
_TEMPORARY = DISK_ERRORS | {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # not caused by the file itself


def copies_of(state_folder: Path) -> Path:
    """The folder with the copies of an agent."""
    return state_folder / "models/copies"


def has_copies(state_folder: Path) -> bool:
    """Whether an agent has a copy of any model that it can read."""
    try:
        with os.scandir(copies_of(state_folder)) as entries:
            return any(entry.name.endswith(".tflite") for entry in entries)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete file in the store, flushed to the disk."""

    sha256: str
    size: int


class Store:
    """`<folder>/<sha256>.tflite`. Every method blocks on the disk; only one thread at a time may call put()."""

    def __init__(
        self, folder: Path, *, max_bytes: int, free_on_disk: Callable[[Path], int] = lambda path: disk_usage(path).free
    ) -> None:
        """`folder` need not exist yet: a disk that is read-only now may be writable later."""
        self.folder = folder
        self._max_bytes = max_bytes
        self._free_on_disk = free_on_disk

    def path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.tflite"

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
        """The bytes that were stored. Raises StoreError; a copy that was damaged since is removed."""
        try:
            content = self.path(sha256).read_bytes()
        except OSError as error:
            raise StoreError(
                f"The stored model {self.path(sha256)} cannot be read: {error.strerror}. "
                "The agent retries automatically."
            ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            with suppress(OSError):
                self.path(sha256).unlink()
            raise StoreError(f"The stored model {self.path(sha256)} was damaged and has been removed. Check the disk.")
        return content

    def _is_whole(self, sha256: str) -> bool:
        """Whether the copy exists and is intact: a disk may lose data."""
        try:
            with self.path(sha256).open("rb") as file:
                return sha256_of(file) == sha256
        except OSError:
            return False

    def keep_only(self, wanted: Collection[str]) -> None:
        """Removes every other copy and the leftovers of interrupted put() calls. Ignores what cannot be removed."""
        names = {f"{sha256}.tflite" for sha256 in wanted}
        with suppress(OSError):
            for path in list(self.folder.iterdir()):
                if path.name not in names and (path.suffix == ".tflite" or path.name.startswith(_INCOMING)):
                    path.unlink(missing_ok=True)

    @contextmanager
    def _written(self, size: int) -> Iterator[tuple[BinaryIO, Path]]:
        """A new file in the store, removed at the end unless it was renamed."""
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
    """Raises ModelError for a file that cannot be read, StoreError if the cause is temporary."""
    try:
        yield
    except (OSError, _SourceError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        words = f"{source.name} cannot be read: {getattr(cause, 'strerror', cause)}."
        if getattr(cause, "errno", None) in _TEMPORARY:
            raise StoreError(f"{words} The agent retries automatically.") from error
        raise ModelError(f"{words} Make it readable for the agent's user: chmod a+r {source.name}.") from error


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


def _too_large(max_bytes: int) -> str:
    return f"The file is larger than {max_bytes >> 20} MB. Drop a smaller model or raise models.max_mb."

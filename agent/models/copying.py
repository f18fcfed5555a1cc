"""Copying: copies a dropped file or folder with its hash, and separates the source's errors from the store's."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from agent.errors import ModelError, StoreError
from agent.host.digest import manifest
from agent.host.durable import flush_folder
from agent.host.plain_file import DISK_ERRORS, open_plain_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNK = 1 << 20
_TEMPORARY = DISK_ERRORS | {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # not caused by the file itself


@dataclass(frozen=True, slots=True)
class Copy:
    """A complete file or folder in the store, flushed to the disk; `manifest` is what was hashed of a folder."""

    sha256: str
    size: int
    manifest: bytes | None = field(default=None, repr=False)


class _SourceError(Exception):
    """Carries an OSError of the source through the handling of those of the store."""


def copy_file(source: BinaryIO, target: BinaryIO, *, max_bytes: int, left: int | None = None) -> Copy:
    """Leaves the target read-only and on the disk. Raises ModelError if more than `left` bytes, or `max_bytes`, come.

    To be called inside source_errors().
    """
    digest, size, most = hashlib.sha256(), 0, max_bytes if left is None else left
    while chunk := _read(source):
        size += len(chunk)
        if size > most:  # it grows while it is read
            raise too_large(max_bytes)
        digest.update(chunk)
        target.write(chunk)
    os.fchmod(target.fileno(), 0o444)
    target.flush()
    os.fsync(target.fileno())
    return Copy(digest.hexdigest(), size)


def copy_files(source: Path, files: Sequence[str], target: Path, *, root: Path | None, max_bytes: int) -> Copy:
    """Like copy_file() for the files with these paths inside the folder `source`; `root` is as in open_plain_file()."""
    digests: list[tuple[str, str]] = []
    size = 0
    for name in files:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(source / name, root) as file, path.open("xb") as written:
            copy = copy_file(file, written, max_bytes=max_bytes, left=max_bytes - size)
        digests.append((name, copy.sha256))
        size += copy.size
    for inner, _, _ in os.walk(target, topdown=False):
        flush_folder(Path(inner))
    lines = manifest(digests)
    return Copy(hashlib.sha256(lines).hexdigest(), size, lines)


def too_large(max_bytes: int) -> ModelError:
    return ModelError(f"The file is larger than {max_bytes >> 20} MB. Drop a smaller model or raise models.max_mb.")


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
        right = "-R a+rX" if source.is_dir() else "a+r"
        raise ModelError(f"{words} Make it readable for the agent's user: chmod {right} {source.name}.") from error


def _opened(path: Path, root: Path | None) -> BinaryIO:
    try:
        return open_plain_file(path, root=root)
    except OSError as error:
        raise _SourceError from error


def _read(source: BinaryIO) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:
        raise _SourceError from error

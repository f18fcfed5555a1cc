"""Digest: the SHA-256 of files and folders that do not fit into memory, read one megabyte at a time."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_BLOCK = 1 << 20


def sha256_of(file: BinaryIO) -> str:
    """Hashes `file` from its current position to its end; in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """The SHA-256 of the folder's manifest, in hexadecimal. Raises OSError."""
    return hashlib.sha256(manifest_of(folder)).hexdigest()


def manifest_of(folder: Path) -> bytes:
    """One line per file, as sha256sum prints it for the path inside the folder, sorted by the bytes of the path.

    Hidden files and links to folders do not count. Raises OSError, also for a name that would not fit on a line.
    """
    return manifest((name, _sha256_at(folder / name)) for name in files_in(folder))


def manifest(digests: Iterable[tuple[str, str]]) -> bytes:
    """The manifest of files with these names and digests. Raises OSError for a name that would not fit on a line."""
    lines = [(_checked(name), sha256) for name, sha256 in digests]
    return b"".join(sha256.encode() + b"  " + name + b"\n" for name, sha256 in sorted(lines))


def files_in(folder: Path) -> list[str]:
    """The paths of its files inside the folder, without hidden ones. Raises OSError."""
    names: list[str] = []
    for inner, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (os.path.join(inner, name) for name in files if not name.startswith("."))  # noqa: PTH118  (many paths)
        names += [os.path.relpath(path, folder) for path in paths if os.path.isfile(path)]  # noqa: PTH113
    return names


def fits_in_manifest(name: str) -> bool:
    """False for a backslash, a control character and what is not valid UTF-8, which sha256sum writes differently."""
    return name.isprintable() and "\\" not in name


def _checked(name: str) -> bytes:
    if not fits_in_manifest(name):
        raise OSError(errno.EILSEQ, "its name is not plain text", name)
    return name.encode()


def _sha256_at(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of(file)


def _raise(error: OSError) -> None:
    raise error

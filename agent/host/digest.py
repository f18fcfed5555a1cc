"""Digest: the SHA-256 of files that do not fit into memory, read one megabyte at a time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 1 << 20


def sha256_of(file: BinaryIO) -> str:
    """Hashes `file` from its current position to its end; in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    _feed(digest, file)
    return digest.hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Hashes the path, size and content of every file, sorted by path. Raises OSError."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            _feed(digest, file)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, file: BinaryIO) -> None:
    while block := file.read(_BLOCK):
        digest.update(block)

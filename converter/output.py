"""Output: finished files, written whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from converter.errors import ConverterError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_output(paths: Iterable[Path], *, force: bool) -> None:
    """Raises UsageError, before any work, for what would be overwritten or has no folder to go to."""
    for path in paths:
        if not path.parent.is_dir():
            raise UsageError(f"The folder {path.parent} does not exist: make it first.")
        if path.is_dir():
            raise UsageError(f"{path} is a folder: give a file's name.")
        if path.exists() and not force:
            raise UsageError(f"{path} exists already: --force replaces it.")


def write_whole(path: Path, content: bytes) -> None:
    """Beside `path`, under a name that agents ignore, then renamed: a running agent never sees half of it.

    Raises ConverterError when the disk is full or the folder does not let us.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ConverterError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

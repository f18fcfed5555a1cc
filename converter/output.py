"""Output: finished files, written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
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


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Beside `path`, under a name that agents ignore, then renamed: a running agent never sees half of it.

    `mode` holds its permissions, less the umask. Raises ConverterError when the disk is full or the folder does not
    let us.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "xb", opener=partial(_open_no_link, mode=mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ConverterError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):  # on what cannot be written there is nothing to remove
            part.unlink()


def _open_no_link(path: str, flags: int, *, mode: int) -> int:
    """In a folder that others may write to, a link in the file's place could lead anywhere."""
    return os.open(path, flags | os.O_NOFOLLOW, mode)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

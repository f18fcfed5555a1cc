"""Files that a power cut leaves whole: the old content or the new one."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """At once or not at all, and on the disk when it returns. Makes the folder. Raises OSError.

    One writer at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)  # a power cut may have left it
    write_and_rename(aside, path, content)


def write_and_rename(aside: Path, path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """As replace_file(), by way of a new file `aside` in the folder of `path`. Raises OSError, also if that exists.

    `mode` holds the permissions, less the umask.
    """
    with open(aside, "xb", opener=partial(_open_no_link, mode=mode)) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            # Not later: once it is renamed, `aside` may be another writer's.
            with suppress(OSError):
                aside.unlink()
            raise
    flush_folder(path.parent)


def set_aside(path: Path) -> None:
    """Keeps what is there as `<name>.damaged`, in the place of the one before. Raises OSError."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir():
        shutil.rmtree(aside)
    path.replace(aside)


def flush_folder(folder: Path) -> None:
    """What was made, renamed or removed there is on the disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_no_link(path: str, flags: int, *, mode: int) -> int:
    """In a folder that others may write to, a link in the file's place could lead anywhere."""
    return os.open(path, flags | os.O_NOFOLLOW, mode)

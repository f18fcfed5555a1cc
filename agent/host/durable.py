"""Writes files so that a power cut leaves either the whole old content or the whole new content."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Writes atomically; the content is on the disk when it returns. Creates the folder. Raises OSError.

    Only one writer at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)  # a power cut may have left it
    write_and_rename(aside, path, content)


def write_and_rename(
    aside: Path,
    path: Path,
    content: bytes,
    *,
    mode: int = 0o666,
    owner: tuple[int, int] | None = None,
    modified_ns: int | None = None,
) -> None:
    """Like replace_file(), with the temporary file `aside`, which must be in the folder of `path`.

    `mode` holds the permissions before the umask applies, `owner` a user and a group that only root can choose freely,
    `modified_ns` the Unix time that the file gets as its time of modification.
    Raises OSError, also if `aside` exists.
    """
    with open(aside, "xb", opener=partial(_open_no_link, mode=mode)) as file:
        try:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.write(content)
            file.flush()
            if modified_ns is not None:
                os.utime(file.fileno(), ns=(modified_ns, modified_ns))
            os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            # Only here: after the rename, `aside` may belong to another writer.
            with suppress(OSError):
                aside.unlink()
            raise
    flush_folder(path.parent)


def set_aside(path: Path) -> None:
    """Renames `path` to `<name>.damaged` and replaces an earlier one. Raises OSError."""
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir():
        shutil.rmtree(aside)
    path.replace(aside)


def flush_folder(folder: Path) -> None:
    """Created, renamed and removed files are on the disk only once their folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_no_link(path: str, flags: int, *, mode: int) -> int:
    """Refuses links: in a folder that others can write to, a link could point to any file."""
    return os.open(path, flags | os.O_NOFOLLOW, mode)

"""Plain file: safely opens a regular file that another user put there."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path


def open_plain_file(path: Path) -> BinaryIO:
    """Raises OSError for a link, a FIFO or a device; one may have replaced the file since it was listed."""
    return open(path, "rb", opener=_open)


def read_plain_file(path: Path, *, max_bytes: int) -> bytes:
    """Raises OSError, also if the file has more than `max_bytes`."""
    with open_plain_file(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes >> 10} kB", str(path))
    return content


def _open(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor

"""Plain file: safely opens a regular file that another user put there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_MAX_LINKS = 16
# A file that cannot be looked at is not missing: a disk was pulled out, or a file server does not answer.
DISK_ERRORS = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN}
)


def open_plain_file(path: Path, *, root: Path | None = None) -> BinaryIO:
    """Raises OSError for a link, a FIFO or a device; one may have replaced the file since it was listed.

    With `root`, the path may contain links below `root` if they lead to a file there.
    """
    return open(path, "rb", opener=_open if root is None else lambda path, flags: _open_below(root, Path(path), flags))


def read_plain_file(path: Path, *, max_bytes: int, root: Path | None = None) -> bytes:
    """Raises OSError, also if the file has more than `max_bytes`; `root` is as in open_plain_file()."""
    with open_plain_file(path, root=root) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes >> 10} kB", str(path))
    return content


def status_below(path: Path, root: Path | None) -> os.stat_result | None:
    """The status of the file or folder that `path` leads to; None if it is missing or may not be used.

    Links are followed only below `root`, to the same file system, and never without it. Raises OSError if the disk or
    the file server fails.
    """
    try:
        status = path.lstat()
        if root is not None and stat.S_ISLNK(status.st_mode):
            target = _below(root, path)
            status = target.lstat()
            if status.st_dev != root.stat().st_dev:
                return None
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        return None
    return None if stat.S_ISLNK(status.st_mode) else status


def _below(root: Path, path: Path) -> Path:
    """The path that `path` leads to, without links; OSError if that is not below `root`.

    Nothing outside `root` is looked at: a link to a dead network mount would block.
    """
    ahead, target, links = [*reversed(path.relative_to(root).parts)], root, 0
    while ahead:
        part = ahead.pop()
        step = target.parent if part == ".." else target / part
        if target == root and part == "..":
            raise OSError(errno.EXDEV, "it is a link that leads out of the folder", str(path))
        link = None if part == ".." else _link_at(step)
        if link is None:
            target = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        if link.is_absolute():
            if not link.is_relative_to(root):
                raise OSError(errno.EXDEV, "it is a link that leads out of the folder", str(path))
            link, target = link.relative_to(root), root
        ahead += reversed(link.parts)
    return target


def _link_at(path: Path) -> Path | None:
    """Where the link at `path` points; None if there is another file. Raises OSError if there is none."""
    try:
        return path.readlink()
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _open(path: str, flags: int) -> int:
    return _regular(os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW), path)


def _open_below(root: Path, path: Path, flags: int) -> int:
    """Opens each folder on the way without following links: one may replace a folder after it was resolved."""
    *folders, name = _below(root, path).relative_to(root).parts
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for each in folders:
            outer, folder = folder, os.open(each, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(outer)
        descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
    return _regular(descriptor, str(path))


def _regular(descriptor: int, path: str) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", path)

"""Disk faults: a full or read-only disk, a disk without inodes, and folders without write permission."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from needs import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Root ignores file modes unless it lacks these two capabilities.
AS_ORDINARY_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []

_DISK = "size=64m,nr_inodes=1000"  # the store keeps 16 MB of it free


class DiskFault(Protocol):
    """`message` is the system's error message."""

    message: str

    def begin(self) -> None: ...
    def end(self) -> None: ...


class FullDisk:
    """No byte is left."""

    message = "No space left on device"

    def __init__(self, disk: Path) -> None:
        self._ballast = disk / "ballast"

    def begin(self) -> None:
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))

    def end(self) -> None:
        self._ballast.unlink()


class NoInodes:
    """No new file can be made, although space is left."""

    message = "No space left on device"

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def begin(self) -> None:
        system = os.statvfs(self._disk)
        _mount(self._disk, f"remount,nr_inodes={system.f_files - system.f_ffree}")

    def end(self) -> None:
        _mount(self._disk, "remount,nr_inodes=1000")


class ReadOnlyDisk:
    """As after the kernel remounted it because of a device error."""

    message = "Read-only file system"

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def begin(self) -> None:
        _mount(self._disk, "remount,ro")

    def end(self) -> None:
        _mount(self._disk, "remount,rw")


class UnwritableFolders:
    """Removes the write permission of `folder` and of all folders in it."""

    message = "Permission denied"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self) -> None:
        self._set_modes(0o555)

    def end(self) -> None:
        self._set_modes(0o755)

    def _set_modes(self, mode: int) -> None:
        for path in (self._folder, *self._folder.rglob("*")):
            if path.is_dir():
                path.chmod(mode)


DISK_FAULTS: dict[str, Callable[[Path], DiskFault]] = {
    "a full disk": FullDisk,
    "a disk without free inodes": NoInodes,
    "a read-only disk": ReadOnlyDisk,
    "a folder without write permission": UnwritableFolders,
}
ONLY_FOR_NEW_FILES = {"a disk without free inodes", "a folder without write permission"}


@contextmanager
def disk_at(folder: Path) -> Iterator[Path]:
    """Mounts a small file system on `folder`, which needs root."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", folder], capture_output=True, check=False)
    need(mounted.returncode == 0, f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", options, disk], check=True)

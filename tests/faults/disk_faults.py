"""Troubles: a disk that is full or read-only, and folders whose mode forbids what the agent needs."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Root may do all that modes forbid, unless these two powers are taken from it.
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []

_DISK = "size=64m,nr_inodes=1000"  # the store leaves 16 MB of it free


class Trouble(Protocol):
    """`words` are the system's own for it."""

    words: str

    def begin(self) -> None: ...
    def end(self) -> None: ...


class FullDisk:
    """To the last byte."""

    words = "No space left on device"

    def __init__(self, disk: Path) -> None:
        self._ballast = disk / "ballast"

    def begin(self) -> None:
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))

    def end(self) -> None:
        self._ballast.unlink()


class NoInodes:
    """No new file can be made, whatever room there is."""

    words = "No space left on device"

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def begin(self) -> None:
        system = os.statvfs(self._disk)
        _mount(self._disk, f"remount,nr_inodes={system.f_files - system.f_ffree}")

    def end(self) -> None:
        _mount(self._disk, "remount,nr_inodes=1000")


class ReadOnlyDisk:
    """As the kernel makes it after an error of the device."""

    words = "Read-only file system"

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def begin(self) -> None:
        _mount(self._disk, "remount,ro")

    def end(self) -> None:
        _mount(self._disk, "remount,rw")


class ForeignFolders:
    """None of the folders in `folder`, nor that one itself, may be written any more."""

    words = "Permission denied"

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


TROUBLES: dict[str, Callable[[Path], Trouble]] = {
    "a full disk": FullDisk,
    "a disk without inodes": NoInodes,
    "a read-only disk": ReadOnlyDisk,
    "a folder that may not be written": ForeignFolders,
}


@contextmanager
def disk_at(folder: Path) -> Iterator[Path]:
    """A small file system of its own, for which one must be root."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        reason = f"no file system can be mounted here: {mounted.stderr.decode().strip()}"
        assert os.environ.get("CI") != "true", f"CI must run every test, and {reason}"
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", options, disk], check=True)

"""Disk: a file behind a write cache. A power cut discards the writes that were not flushed."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self


class Disk:
    """nbdkit's cache filter writes only when the machine flushes, like a drive with a volatile cache.

    `drive` is the -drive option of qemu. After cut_power(), open() starts again with the remaining content of `file`.
    """

    def __init__(self, file: Path, socket: Path) -> None:
        self._file = file
        self._socket = socket
        # Requests wait while the disk is gone: after a power cut no program must see an I/O error.
        self.drive = f"file.driver=nbd,file.server.type=unix,file.server.path={socket},file.reconnect-delay=60"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.cut_power()

    def open(self) -> None:
        self._socket.unlink(missing_ok=True)
        options = ["--filter=cache", "file", f"file={self._file}", "cache=writeback"]
        self._nbdkit = subprocess.Popen(["nbdkit", "--foreground", "--unix", self._socket, *options])
        deadline_s = time.monotonic() + 10
        while not self._socket.exists():
            assert self._nbdkit.poll() is None, "nbdkit has ended"
            assert time.monotonic() < deadline_s, "nbdkit is not listening"
            time.sleep(0.01)

    def cut_power(self) -> None:
        self._nbdkit.kill()
        self._nbdkit.wait()

"""NotifySocket: systemd's end of sd_notify(3), a datagram socket that receives the messages of a service."""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class NotifySocket:
    """`address` is the value of NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="notify-")  # pytest's paths are too long for a socket
        self.address = str(Path(self._folder.name) / "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._folder.cleanup()

    def wait_for(self, line: str, *, timeout_s: float = 20) -> list[str]:
        """The lines of the first message with the line `line`; earlier messages are discarded."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
            lines = self._socket.recv(4096).decode().split("\n")
            if line in lines:
                return lines

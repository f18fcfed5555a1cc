"""Mosquitto: the real broker on a free port, which a test can start, stop and kill."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # Debian installs it outside a user's PATH
_claims: list[socket.socket] = []


class Mosquitto:
    """Skips the test if mosquitto is not installed. Keeps its files in `folder`, which must exist.

    Access is anonymous unless `users` maps names to passwords. `config` is appended to mosquitto.conf: settings of the
    default listener, such as Certificate.listener(), must precede further listeners. Each start() uses the same port.
    With `persistence true` in `config`, the state survives stop(), but not kill().
    """

    def __init__(self, folder: Path, *, users: dict[str, str] | None = None, config: str = "") -> None:
        self._binary = _find("mosquitto")
        self._folder = folder
        self._passwords = folder / "passwords"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        access = "allow_anonymous true" if users is None else f"password_file {self._passwords}"
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\n{access}\nuser root\npersistence_location {folder}/\n{config}\n"
        )
        for name, password in (users or {}).items():
            self.set_password(name, password)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        return (self._folder / "mosquitto.log").read_text()

    def start(self) -> None:
        """Returns once the broker accepts connections."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-v", "-c", self._folder / "mosquitto.conf"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"mosquitto did not start:\n{self.log}")
            time.sleep(0.01)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stops the process until resume() or kill(): the kernel accepts connections and bytes, without an answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def set_password(self, name: str, password: str) -> None:
        """Takes effect immediately, also in a running broker; existing connections stay open."""
        create = [] if self._passwords.exists() else ["-c"]
        subprocess.run(
            [_find("mosquitto_passwd"), *create, "-b", self._passwords, name, password],
            check=True,
            capture_output=True,
        )
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Sent again until the process has ended: mosquitto accepts connections a moment before its main loop begins,
        # and the beginning of the loop discards a SIGTERM that came earlier.
        deadline = time.monotonic() + 10
        while True:
            process.send_signal(number)
            try:
                process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, f"mosquitto did not end:\n{self.log}"
            else:
                return


def free_port() -> int:
    """Returns a TCP port that no other caller in any process gets until this process ends.

    It is below the kernel's range of client ports, because a client could connect to itself on a port without a
    listener. This process claims the port by holding the UDP port of the same number.
    """
    while True:
        port = random.randint(12_000, 32_000)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind(("127.0.0.1", port))
                listener.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _claims.append(claim)
        return port


def _find(program: str) -> str:
    found = shutil.which(program, path=_PATH)
    if found is None:
        pytest.skip(f"{program} is not installed: apt install mosquitto")
    return found

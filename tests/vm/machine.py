"""Machine: a computer with a disk and a network card, emulated by qemu without KVM."""

from __future__ import annotations

import base64
import contextlib
import shlex
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from peers.mosquitto import free_port
from system.guest import Guest
from system.root import missing_for_bed
from vm.image import SHELL_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self
    from vm.image import Image

HOST = "10.0.2.2"  # the address of this machine, seen from the emulated one

_BOOTS_WITHIN_S = 480
_PROCESSORS = {
    "amd64": ["qemu-system-x86_64", "-M", "q35", "-cpu", "max"],
    "arm64": ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"],
}
_CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
_HTTP_PORT = 8501


def missing_for_machine() -> str | None:
    """What this machine lacks for emulation and how to get it; None if it lacks nothing."""
    for program, package in (
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("nbdkit", "nbdkit"),
        ("mosquitto", "mosquitto"),
    ):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt install {package}"
    return missing_for_bed()


class Machine(Guest):
    """Has two processors, 1.5 GB of memory, and `drives` (-drive options of qemu); boots the first drive.

    The local `port` is forwarded to port 8501 of the machine. `__enter__` returns when all units have started.
    """

    def __init__(self, image: Image, log: Path, *, drives: Sequence[str], root: str = "rw") -> None:
        self.port, self._shell_port = free_port(), free_port()
        forwards = {self.port: _HTTP_PORT, self._shell_port: SHELL_PORT}
        words = ",".join(f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forwards.items())
        self._log = log
        console = _CONSOLES[image.architecture]
        self._command = [*_PROCESSORS[image.architecture], "-accel", "tcg,thread=multi", "-smp", "2"]
        self._command += ["-m", "1536", "-display", "none", "-monitor", "none", "-serial", f"file:{log}"]
        self._command += ["-netdev", f"user,id=net,{words}", "-device", "virtio-net-pci,netdev=net,romfile="]
        self._command += [word for drive in drives for word in ("-drive", f"if=virtio,format=raw,{drive}")]
        self._command += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append"]
        self._command += [f"root=/dev/vda {root} console={console} quiet systemd.mask=serial-getty@{console}.service"]

    def __enter__(self) -> Self:
        self._qemu = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        try:
            self._wait_for_shell()
            self.run("systemctl is-system-running --wait || (systemctl --failed; exit 1)", timeout_s=_BOOTS_WITHIN_S)
        except BaseException:
            self.cut_power()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.cut_power()

    def cut_power(self) -> None:
        """Kills qemu: the memory is lost. The disk decides about its own write cache."""
        self._qemu.kill()
        self._qemu.wait()

    def attempt(self, script: str, *, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        line = base64.b64encode(f"cd /\n{script}".encode()) + b"\n"
        try:
            with socket.create_connection(("127.0.0.1", self._shell_port), timeout=timeout_s) as connection:
                connection.sendall(line)
                reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        except OSError as error:
            raise LookupError(f"the machine does not answer: {error}") from error
        output, _, status = reply.decode(errors="replace").rstrip("\n").rpartition("\n")
        if not status.isdecimal():
            raise LookupError("the machine closed the connection")
        return subprocess.CompletedProcess(script, int(status), output)

    def wait_for(self, script: str, *, timeout_s: float = 60) -> None:
        """Retries inside the machine: starting each attempt from here takes a second on an emulated processor."""
        attempt = f"bash -euo pipefail -c {shlex.quote(script)} 2>&1"
        message = f"did not succeed within {timeout_s:.0f} s: $output"
        give_up = f'[ $SECONDS -lt {timeout_s:.0f} ] || {{ echo "{message}"; exit 1; }}'
        self.run(f"until output=$({attempt}); do {give_up}; sleep 0.2; done", timeout_s=timeout_s + 60)

    def log_if_ended(self) -> str | None:
        return None if self._qemu.poll() is None else self._log.read_text(errors="replace")

    def _wait_for_shell(self) -> None:
        deadline_s = time.monotonic() + _BOOTS_WITHIN_S
        while not self._answers():
            assert time.monotonic() < deadline_s, self._log.read_text(errors="replace")
            assert (ended := self.log_if_ended()) is None, ended
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Has a short timeout: qemu accepts a connection before the machine listens, and then never answers."""
        with contextlib.suppress(LookupError):
            return self.attempt("true", timeout_s=20).returncode == 0
        return False

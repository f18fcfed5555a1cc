"""Bed: a container that is booted by a real systemd; what is changed in it is gone when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from system.bundles import unpack_material
from system.root import system_root, why_there_is_no_bed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNIT = "edge-agent.service"
_PYTHONS = {"jammy": "3.10", "bookworm": "3.11", "trixie": "3.13"}


@contextlib.contextmanager
def booted_bed(suite: str, folder: Path) -> Iterator[Bed]:
    """With the material of system.bundles in /mnt. Skips the test, and says why, where there can be none."""
    if reason := why_there_is_no_bed():
        _give_up(reason)
    try:
        material = unpack_material(_PYTHONS[suite], folder)
        root = system_root(suite)
    except FileNotFoundError as error:
        _give_up(f"dist/ has no {error}: say make test-system")
    except subprocess.CalledProcessError as error:
        _give_up(f"{suite} cannot be installed here: {error}")
    with Bed(root, material, folder / "boot.log") as bed:
        yield bed


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run every test, and {reason}")
    pytest.skip(reason)


class Bed:
    """Without any network but its own loopback; `material` is its /mnt, read-only."""

    def __init__(self, root: Path, material: Path, log: Path) -> None:
        self._command = ["systemd-nspawn", "--boot", "--directory", str(root), "--volatile=overlay"]
        self._command += ["--register=no", "--keep-unit", "--console=read-only", "--private-network"]
        self._command += [f"--bind-ro={material}:/mnt", "--machine", f"bed-{uuid.uuid4().hex[:8]}"]
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_for("systemctl is-system-running", timeout_s=60)
        except BaseException:
            self._nspawn.kill()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        subprocess.run(["kill", "-s", "SIGRTMIN+4", self._init()], check=False)  # systemd's own for: power off
        try:
            self._nspawn.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._nspawn.send_signal(signal.SIGKILL)

    def attempt(self, script: str, *, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """What bash makes of it, as root of the container; stderr goes where stdout does."""
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        shell = ["/usr/bin/env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8", "bash", "-euo", "pipefail", "-c"]
        return subprocess.run(
            ["nsenter", "--target", self._init(), *namespaces, "--", *shell, f"cd /\n{script}"],
            stdin=subprocess.DEVNULL,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def run(self, script: str, *, timeout_s: float = 240) -> str:
        """The same, for what must not fail."""
        answer = self.attempt(script, timeout_s=timeout_s)
        assert answer.returncode == 0, (
            f"{script}\n{answer.stdout}\n{self.journal() if 'journalctl' not in script else ''}"
        )
        return answer.stdout.strip()

    def wait_for(self, script: str, *, timeout_s: float = 20) -> None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(LookupError):
                answer = self.attempt(script)
                if answer.returncode == 0:
                    return
                said = answer.stdout
                assert time.monotonic() < deadline_s, f"not within {timeout_s:.0f} s: {script}\n{said}"
            assert self._nspawn.poll() is None, self._log.read_text(errors="replace")
            time.sleep(0.1)

    def show(self, key: str) -> str:
        """A property of the service, as systemd gives it."""
        return self.run(f"systemctl show --property {key} --value {_UNIT}")

    def journal(self) -> str:
        """What the service and systemd have said of it."""
        return self.run(f"journalctl --unit {_UNIT} --output short-monotonic --no-pager")

    def override(self, name: str, *lines: str) -> None:
        """A drop-in of that name in its [Service] section; none of that name where there are no lines."""
        path = f"/etc/systemd/system/{_UNIT}.d/{name}.conf"
        text = "\n".join(["[Service]", *lines])
        self.run(f"mkdir -p $(dirname {path})\ncat >{path} <<'END'\n{text}\nEND" if lines else f"rm -f {path}")
        self.run("systemctl daemon-reload")

    def _init(self) -> str:
        """The container's PID 1, as this machine counts. Raises LookupError while there is none yet."""
        pid = self._nspawn.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            raise LookupError(pid) from None
        if not children:
            raise LookupError(pid)
        return children[0]

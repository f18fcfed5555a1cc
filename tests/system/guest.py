"""Guest: a Debian booted by systemd, in which tests can run scripts as root."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

UNIT = "edge-agent.service"


class Guest(ABC):
    @abstractmethod
    def attempt(self, script: str, *, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Runs a bash script as root; stderr is part of stdout. Raises LookupError if the guest does not answer."""

    @abstractmethod
    def log_if_ended(self) -> str | None:
        """The log of the guest if it has ended; None while it runs."""

    def run(self, script: str, *, timeout_s: float = 240) -> str:
        """Runs a script that must succeed, and returns its output."""
        answer = self.attempt(script, timeout_s=timeout_s)
        assert answer.returncode == 0, (
            f"{script}\n{answer.stdout}\n{self.journal() if 'journalctl' not in script else ''}"
        )
        return answer.stdout.strip()

    def wait_for(self, script: str, *, timeout_s: float = 20) -> None:
        deadline_s = time.monotonic() + timeout_s
        output = ""
        while True:
            with contextlib.suppress(LookupError):
                answer = self.attempt(script)
                if answer.returncode == 0:
                    return
                output = answer.stdout
            assert time.monotonic() < deadline_s, f"did not succeed within {timeout_s:.0f} s: {script}\n{output}"
            assert (ended := self.log_if_ended()) is None, ended
            time.sleep(0.1)

    def show(self, key: str) -> str:
        """Returns a systemd property of the service."""
        return self.run(f"systemctl show --property {key} --value {UNIT}")

    def journal(self) -> str:
        """Returns the journal of the service."""
        return self.run(f"journalctl --unit {UNIT} --output short-monotonic --no-pager")

    def override(self, name: str, *lines: str) -> None:
        """Writes a drop-in for the [Service] section; without lines, removes the drop-in of that name."""
        path = f"/etc/systemd/system/{UNIT}.d/{name}.conf"
        text = "\n".join(["[Service]", *lines])
        self.run(f"mkdir -p $(dirname {path})\ncat >{path} <<'END'\n{text}\nEND" if lines else f"rm -f {path}")
        self.run("systemctl daemon-reload")

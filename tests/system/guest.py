"""Guest: a Debian that a systemd has booted, seen by who may run scripts in it as root."""

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
        """What bash makes of it, as root; stderr goes where stdout does. Raises LookupError where nobody answers."""

    @abstractmethod
    def why_it_ended(self) -> str | None:
        """What it said at last; None while it runs."""

    def run(self, script: str, *, timeout_s: float = 240) -> str:
        """The same, for what must not fail."""
        answer = self.attempt(script, timeout_s=timeout_s)
        assert answer.returncode == 0, (
            f"{script}\n{answer.stdout}\n{self.journal() if 'journalctl' not in script else ''}"
        )
        return answer.stdout.strip()

    def wait_for(self, script: str, *, timeout_s: float = 20) -> None:
        deadline_s = time.monotonic() + timeout_s
        said = ""
        while True:
            with contextlib.suppress(LookupError):
                answer = self.attempt(script)
                if answer.returncode == 0:
                    return
                said = answer.stdout
            assert time.monotonic() < deadline_s, f"not within {timeout_s:.0f} s: {script}\n{said}"
            assert (ended := self.why_it_ended()) is None, ended
            time.sleep(0.1)

    def show(self, key: str) -> str:
        """A property of the service, as systemd gives it."""
        return self.run(f"systemctl show --property {key} --value {UNIT}")

    def journal(self) -> str:
        """What the service and systemd have said of it."""
        return self.run(f"journalctl --unit {UNIT} --output short-monotonic --no-pager")

    def override(self, name: str, *lines: str) -> None:
        """A drop-in of that name in its [Service] section; none of that name where there are no lines."""
        path = f"/etc/systemd/system/{UNIT}.d/{name}.conf"
        text = "\n".join(["[Service]", *lines])
        self.run(f"mkdir -p $(dirname {path})\ncat >{path} <<'END'\n{text}\nEND" if lines else f"rm -f {path}")
        self.run("systemctl daemon-reload")

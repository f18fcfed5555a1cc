"""Runs the ENTRYPOINT and CMD of a stage as its USER, with a read-only root and a private network."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from system.nspawn import init_of, kill

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from system.dockerfile import Stage
    from typing_extensions import Self

# Not 127.0.0.1: shows that the agent listens on all interfaces.
ADDRESS = "10.254.254.1"


class Container:
    """Like `docker run --read-only --volume MODELS:/models:ro`: only the volumes are writable."""

    def __init__(self, stage: Stage, folder: Path, *, models: Path) -> None:
        self._stage = stage
        self._log = folder / "container.log"
        self._options = ["--read-only", "--private-network", "--no-new-privileges=yes", f"--bind-ro={models}:/models"]
        for number, volume in enumerate(stage.volumes):
            own = folder / f"volume-{number}"
            shutil.copytree(stage.root / volume.lstrip("/"), own)
            subprocess.run(["chown", "--reference", stage.root / volume.lstrip("/"), own], check=True)
            self._options.append(f"--bind={own}:{volume}")

    def __enter__(self) -> Self:
        command = [*self._stage.nspawn(*self._options), *self._stage.entrypoint, *self._stage.command]
        # A container engine does not mount /tmp either.
        environment = {**os.environ, "SYSTEMD_NSPAWN_TMPFS_TMP": "0"}
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            self.wait_for("ip", "link", "set", "lo", "up")
            self.wait_for("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
            self.wait_for("curl", "-sS", f"http://{ADDRESS}:8501/healthz")
        except BaseException:
            kill(self._nspawn)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        kill(self._nspawn)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def outside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of this machine in the container's network."""
        return _run(["nsenter", f"--target={self.process}", "--net", "--", *command])

    def inside(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command like `docker exec`, or like a health check."""
        user, _, group = self._stage.user.partition(":")
        own = ["--mount", "--uts", "--ipc", "--net", "--pid", f"--setuid={user}", f"--setgid={group}"]
        variables = [f"{name}={value}" for name, value in self._stage.environment.items()]
        return _run(["nsenter", f"--target={self.process}", *own, "--", "/usr/bin/env", "-i", *variables, *command])

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process, number)

    def wait(self) -> int:
        """Returns the exit code of the container's process."""
        return self._nspawn.wait(timeout=30)

    def wait_for(self, *command: str) -> None:
        deadline_s = time.monotonic() + 30
        while (answer := self._try(command)) != "":
            assert time.monotonic() < deadline_s, f"{command} did not succeed within 30 s: {answer}\n{self.log}"
            assert self._nspawn.poll() is None, self.log
            time.sleep(0.1)

    def _try(self, command: Sequence[str]) -> str:
        try:
            answer = self.outside(*command)
        except (LookupError, OSError) as error:
            return str(error) or "not there yet"
        return answer.stderr + f"exit code {answer.returncode}" if answer.returncode else ""

    @property
    def process(self) -> int:
        return init_of(self._nspawn)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)

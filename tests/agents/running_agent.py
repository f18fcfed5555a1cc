"""RunningAgent: the real command `edge-agent run` in its own process, as systemd runs it."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "demo" / "digits.tflite"
VIDEO = ROOT / "demo" / "digits.mp4"

_READY = re.compile(r"Ready\. HTTP https?://[^/]+:(\d+)/")


class AgentProcess:
    """Writes agent.log next to its configuration, in which http.port must be 0: the kernel chooses the port.

    `__enter__` returns once the log says Ready. `__exit__` kills the process if it still runs. A crash of the agent
    fails the test.
    """

    program = Path(sys.executable).with_name("edge-agent")

    def __init__(
        self, config_path: Path, *, environment: dict[str, str] | None = None, under: Sequence[str] = ()
    ) -> None:
        """`under` is a command that runs another one, such as setpriv or prlimit with options."""
        config = yaml.safe_load(config_path.read_text())
        self.models = (config_path.parent / config["models"].get("folder", "models")).resolve()
        self.port = 0
        self._scheme = "https" if config["http"].get("tls_cert") else "http"
        self._config_path = config_path
        self._log_path = config_path.with_name("agent.log")
        self._environment = {**os.environ, **(environment or {})}
        self._under = under
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        crashed = self.process.poll() not in (None, 0, -signal.SIGKILL)
        self._kill()
        assert not crashed, f"the agent crashed:\n{self.log}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the agent was not started"
        return self._process

    @property
    def log(self) -> str:
        """The process's standard output and standard error."""
        return self._log_path.read_text()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns immediately."""
        own = [str(self.program), "run", "--config", str(self._config_path)]
        command = [*self._under, *own]
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def restart(self) -> None:
        """Starts the agent, possibly again after it ended, and returns when it is ready."""
        self.start()
        try:
            wait_until(lambda: self._is_ready() or not self.is_running(), timeout_s=60, what="the agent is ready")
            assert self._is_ready(), f"the agent ended before it was ready:\n{self.log}"
        except BaseException:
            self._kill()
            raise

    def is_running(self) -> bool:
        return self.process.poll() is None

    def drop(self, content: bytes, name: str = "digits", *, checksum: bool = False) -> None:
        """Writes the file as `cp` does; with `checksum`, writes its .sha256 file first."""
        proof = self.models / f"{name}.tflite.sha256"
        if checksum:
            proof.write_text(f"{hashlib.sha256(content).hexdigest()}  {name}.tflite\n")
        else:
            proof.unlink(missing_ok=True)
        (self.models / f"{name}.tflite").write_bytes(content)

    def get(self, path: str) -> httpx.Response:
        return self._request("GET", path)

    def json(self, path: str) -> Any:
        return self.get(path).json()

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self._request("POST", path, **request)

    def model(self, name: str = "digits") -> dict[str, Any]:
        """The model's entry in /v1/models; empty if there is none."""
        found = (model for model in self.json("/v1/models")["models"] if model["name"] == name)
        return next(found, {})

    def rejection(self, name: str = "digits") -> str:
        """Why the last file with that name was rejected; empty if it was not."""
        rejection = self.model(name).get("rejection")
        return str(rejection["reason"]) if rejection else ""

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Sends a signal, waits for the end and returns the seconds that it took."""
        started_s = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=30)
        return time.monotonic() - started_s

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        # Without `verify=False`, each call loads the system's CA certificates, which takes 30 ms.
        return httpx.request(method, self.url + path, timeout=10, verify=False, trust_env=False, **request)

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def _is_ready(self) -> bool:
        found = _READY.search(self.log)
        if found is not None:
            self.port = int(found[1])
        return found is not None


class RunningAgent(AgentProcess):
    """An agent without MQTT or cameras, with its files in `folder`; `config` adds to the sections of its YAML."""

    def __init__(
        self,
        folder: Path,
        *,
        environment: dict[str, str] | None = None,
        under: Sequence[str] = (),
        **config: dict[str, Any],
    ) -> None:
        (folder / "models").mkdir(exist_ok=True)
        sections: dict[str, dict[str, Any]] = {
            "device": {"id": "test", "state_folder": "state"},
            "models": {"folder": "models"},
            "http": {"port": 0},
            "mqtt": {"enabled": False},
        }
        for name, section in config.items():
            sections[name] = {**sections.get(name, {}), **section}
        path = folder / "agent.yaml"
        path.write_text(yaml.safe_dump(sections))
        super().__init__(path, environment=environment, under=under)


def wait_until(condition: Callable[[], object], *, timeout_s: float = 30, what: str) -> None:
    """Polls until `condition` is true; fails with `what` in the message after `timeout_s`."""
    started_s = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - started_s
        assert waited_s < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        # A request to the agent uses 10 ms of CPU time, which what the test waits for needs too.
        time.sleep(min(max(0.025, waited_s / 10), 0.1))

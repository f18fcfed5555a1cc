"""Requests per second of POST /predict, compared with LitServe with the same model and workers, measured in turn."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from agents.running_agent import RunningAgent, wait_until
from benchmarks import wrk
from benchmarks.figure import Figure, Skipped
from benchmarks.material import ROOT, SIZES, form, jpeg
from benchmarks.predict_rate import WORKERS, rate
from peers.mosquitto import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "POST /predict / LitServe"
_PYTHON = ROOT / ".venv-litserve" / "bin" / "python"
_BOUND = 1.6
_ROUNDS = 4
_TURN_S = 2
_CONNECTIONS = 8


def figures(model: Path) -> Iterator[Figure | Skipped]:
    if wrk.MISSING:
        yield Skipped(_NAME, wrk.MISSING)
        return
    if not _works():
        yield Skipped(_NAME, "LitServe could not be installed in .venv-litserve")
        return
    with tempfile.TemporaryDirectory() as folder:
        agent = RunningAgent(Path(folder), engine={"workers": WORKERS, "threads": 1})
        agent.drop(model.read_bytes(), "mobilenet")
        with agent, _litserve(model) as url:
            for width, height in SIZES:
                body = form(jpeg(width, height))
                rates = [(rate(agent, body, for_s=_TURN_S), _rate(url, body)) for _ in range(_ROUNDS)]
                yield Figure.of(f"LitServe, {width}x{height}, form", [peer for _, peer in rates], unit="requests/s")
                ratios = [own / peer for own, peer in rates]
                yield Figure.of(f"{_NAME}, {width}x{height}, form", ratios, bound=_BOUND, at_most=False)


def _works() -> bool:
    if not _PYTHON.is_file():
        return False
    return subprocess.run([_PYTHON, "-c", "import litserve"], check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def _litserve(model: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    script = Path(__file__).with_name("litserve_server.py")
    command = [str(_PYTHON), str(script), str(model), str(port), str(WORKERS)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: _is_ready(url), timeout_s=60, what="LitServe is ready")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its workers would survive it
        server.wait(timeout=30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _rate(url: str, body: Path) -> float:
    load = wrk.result(wrk.start(f"{url}/predict", body, connections=_CONNECTIONS, for_s=_TURN_S))
    assert not load.failed, f"{load.failed} of {load.requests} uploads to LitServe failed"
    return load.per_s

"""The footprint of the running service: seconds until READY=1, and memory after some work."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
from agents.running_agent import RunningAgent
from benchmarks.figure import Figure
from benchmarks.material import SIZES, jpeg
from end_to_end.notify_socket import NotifySocket

if TYPE_CHECKING:
    from collections.abc import Iterator

_STARTS = 5
_UPLOADS = 200


def figures(model: Path) -> Iterator[Figure]:
    runs = [_start_and_work(model, uploads=0) for _ in range(_STARTS - 1)]
    runs.append(_start_and_work(model, uploads=_UPLOADS))
    yield Figure.of("exec to READY=1", [ready_s for ready_s, _ in runs], unit="s", bound=2.0)
    yield Figure.of("RSS when ready", [rss_mb for _, rss_mb in runs[:-1]], unit="MB")
    yield Figure.of(f"RSS after {_UPLOADS} uploads, 2 workers", [runs[-1][1]], unit="MB", bound=180)


def _start_and_work(model: Path, *, uploads: int) -> tuple[float, float]:
    """Seconds until READY=1, and resident memory at the end in MB (1,000,000 bytes)."""
    with tempfile.TemporaryDirectory() as folder, NotifySocket() as systemd:
        environment = {"NOTIFY_SOCKET": systemd.address}
        agent = RunningAgent(Path(folder), environment=environment, engine={"workers": 2, "threads": 1})
        agent.drop(model.read_bytes(), "mobilenet")
        time.sleep(0.5)  # otherwise the start waits until the copy has settled
        started_s = time.monotonic()
        with agent:
            systemd.wait_for("READY=1")
            ready_s = time.monotonic() - started_s
            _upload(agent, uploads)
            return ready_s, psutil.Process(agent.process.pid).memory_info().rss / 1e6


def _upload(agent: RunningAgent, count: int) -> None:
    images = [jpeg(*size).read_bytes() for size in SIZES]
    with httpx.Client(base_url=agent.url, timeout=30, verify=False, trust_env=False) as client:
        for number in range(count):
            client.post("/predict", content=images[number % len(images)]).raise_for_status()

"""The time until a dropped model answers, and the requests that fail during swaps."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from agents.running_agent import RunningAgent
from benchmarks import wrk
from benchmarks.figure import Figure, Skipped
from benchmarks.material import SIZES, form, jpeg, model_version

if TYPE_CHECKING:
    from collections.abc import Iterator

_DROPS = 15
_SWAPS_UNDER_LOAD = 50
_LONGEST_S = 90
_TIMEOUT_S = 30


def figures(model: Path) -> Iterator[Figure | Skipped]:
    with tempfile.TemporaryDirectory() as folder:
        agent = RunningAgent(Path(folder), engine={"workers": 2, "threads": 1})
        agent.drop(model_version(model, 0), "mobilenet")
        with agent:
            versions = [model_version(model, number) for number in range(1, 2 * _DROPS + 1)]
            settled_s = [_drop(agent, content) for content in versions[:_DROPS]]
            yield Figure.of("time to first result of a dropped model", settled_s, unit="s", bound=2.0)
            proven_s = [_drop(agent, content, checksum=True) for content in versions[_DROPS:]]
            yield Figure.of(
                "time to first result of a dropped model, with a checksum file", proven_s, unit="s", bound=1.0
            )
            yield from _under_load(agent, model)


def _under_load(agent: RunningAgent, model: Path) -> Iterator[Figure | Skipped]:
    name = f"failed requests in {_SWAPS_UNDER_LOAD} swaps under load"
    if wrk.MISSING:
        yield Skipped(name, wrk.MISSING)
        return
    body = form(jpeg(*SIZES[0]))
    running = wrk.start(f"{agent.url}/predict", body, connections=4, for_s=_LONGEST_S)
    ends_s = time.monotonic() + _LONGEST_S
    waits_s: list[float] = []
    while len(waits_s) < _SWAPS_UNDER_LOAD and time.monotonic() < ends_s - 2:
        waits_s.append(_drop(agent, model_version(model, len(waits_s) % 2)))
    running.send_signal(2)  # wrk then prints its report and exits
    load = wrk.result(running)
    yield Figure.of("time to first result of a dropped model, under load", waits_s, unit="s")
    if len(waits_s) < _SWAPS_UNDER_LOAD:
        name = f"failed requests in {len(waits_s)} swaps under load (the limit is {_LONGEST_S} s)"
    yield Figure.of(f"{name}, of {load.requests}", [load.failed], bound=0)


def _drop(agent: RunningAgent, content: bytes, *, checksum: bool = False) -> float:
    """Seconds from the end of the copy to the first result of the new version."""
    sha256 = hashlib.sha256(content).hexdigest()
    image = jpeg(*SIZES[0]).read_bytes()
    agent.drop(content, "mobilenet", checksum=checksum)
    copied_s = time.monotonic()
    with httpx.Client(base_url=agent.url, timeout=_TIMEOUT_S, verify=False, trust_env=False) as client:
        while time.monotonic() < copied_s + _TIMEOUT_S:
            answer = client.post("/predict", content=image)
            if answer.is_success and answer.json()["model"]["sha256"] == sha256:
                return time.monotonic() - copied_s
            time.sleep(0.01)
    raise AssertionError(f"the dropped model did not answer within {_TIMEOUT_S} s:\n{agent.log}")

"""Requests per second of POST /predict, compared with the same work without HTTP, measured in turn."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from agents.running_agent import RunningAgent, wait_until
from benchmarks import wrk
from benchmarks.figure import Figure, Skipped
from benchmarks.material import SIZES, form, jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORKERS = 2

_NAME = "POST /predict / the same work without HTTP"
_BOUNDS = {(640, "raw body"): 0.87, (640, "form"): 0.85, (1920, "raw body"): 0.93, (1920, "form"): 0.91}
_ROUNDS = 6
_TURN_S = 2
_CONNECTIONS = 8


def figures(model: Path) -> Iterator[Figure | Skipped]:
    if wrk.MISSING:
        yield Skipped(_NAME, wrk.MISSING)
        return
    with tempfile.TemporaryDirectory() as folder:
        agent = RunningAgent(Path(folder), engine={"workers": WORKERS, "threads": 1})
        agent.drop(model.read_bytes(), "mobilenet")
        with agent:
            for width, height in SIZES:
                yield from _of_size(agent, model, width, height)


def _of_size(agent: RunningAgent, model: Path, width: int, height: int) -> Iterator[Figure]:
    image = jpeg(width, height)
    bodies = {"raw body": image, "form": form(image)}
    bare: list[float] = []
    rates: dict[str, list[float]] = {kind: [] for kind in bodies}
    for _ in range(_ROUNDS):
        bare.append(bare_rate(model, image, for_s=_TURN_S))
        for kind, body in bodies.items():
            rates[kind].append(rate(agent, body, for_s=_TURN_S))
    bare.append(bare_rate(model, image, for_s=_TURN_S))
    around = [(before + after) / 2 for before, after in itertools.pairwise(bare)]
    yield Figure.of(f"without HTTP, {width}x{height}, {WORKERS} threads", bare, unit="images/s")
    for kind, values in rates.items():
        yield Figure.of(f"POST /predict, {width}x{height}, {kind}", values, unit="requests/s")
        ratios = [value / beside for value, beside in zip(values, around, strict=True)]
        yield Figure.of(f"{_NAME}, {width}x{height}, {kind}", ratios, bound=_BOUNDS[width, kind], at_most=False)


def rate(agent: RunningAgent, body: Path, *, for_s: float) -> float:
    return load(agent, body, for_s=for_s, connections=_CONNECTIONS).per_s


def load(
    agent: RunningAgent, body: Path, *, for_s: float, connections: int, access: Mapping[str, str] | None = None
) -> wrk.Load:
    # wrk leaves its last uploads unanswered; together with the next ones, they would exceed the share of one address.
    wait_until(lambda: _is_idle(agent, access), what="the agent is idle")
    headers = {"Content-Type": wrk.TYPES[body.suffix], **(access or {})}
    running = wrk.start(f"{agent.url}/predict", body, connections=connections, for_s=for_s, headers=headers)
    load = wrk.result(running)
    assert not load.failed, f"{load.failed} of {load.requests} uploads failed"
    return load


def _is_idle(agent: RunningAgent, access: Mapping[str, str] | None) -> bool:
    metrics = httpx.get(f"{agent.url}/metrics", headers=access, trust_env=False)
    return "requests_in_flight 0.0" in metrics.raise_for_status().text


def bare_rate(model: Path, image: Path, *, for_s: float) -> float:
    per_s, _ = bare(model, image, for_s=for_s, threads=WORKERS)
    return per_s


def bare(model: Path, image: Path, *, for_s: float, threads: int) -> tuple[float, float]:
    """Images per second, and the median of the milliseconds per image."""
    script = Path(__file__).with_name("bare_loop.py")
    command = [sys.executable, str(script), str(model), str(image), str(threads), str(for_s)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    per_s, p50_ms = map(float, output.split())
    return per_s, p50_ms

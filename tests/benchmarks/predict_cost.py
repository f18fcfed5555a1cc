"""What POST /predict adds: over one connection, with MQTT and tokens, and in a batch."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from agents.running_agent import RunningAgent
from benchmarks import wrk
from benchmarks.figure import Figure, Skipped
from benchmarks.material import SIZES, jpeg
from benchmarks.predict_rate import WORKERS, bare, bare_rate, load, rate
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "POST /predict"
_ROUNDS = 6
_TURN_S = 2
_CONNECTIONS = 8
_BATCH = 16


def figures(model: Path) -> Iterator[Figure | Skipped]:
    if wrk.MISSING:
        yield Skipped(f"{_NAME} over one connection, with MQTT and tokens", wrk.MISSING)
        return
    with tempfile.TemporaryDirectory() as folder, _agent(Path(folder), model) as agent:
        for size in SIZES:
            yield _one_connection(agent, model, *size)
        yield _batch(agent)
        yield from _with_mqtt_and_tokens(agent, model)


def _agent(folder: Path, model: Path, *, mqtt: dict[str, Any] | None = None) -> RunningAgent:
    agent = RunningAgent(folder, engine={"workers": WORKERS, "threads": 1}, mqtt=mqtt or {"enabled": False})
    agent.drop(model.read_bytes(), "mobilenet")
    return agent


def _one_connection(agent: RunningAgent, model: Path, width: int, height: int) -> Figure:
    image = jpeg(width, height)
    added_ms = []
    for _ in range(_ROUNDS):
        _, own_ms = bare(model, image, for_s=_TURN_S, threads=1)
        added_ms.append(load(agent, image, for_s=_TURN_S, connections=1).p50_ms - own_ms)
    name = f"{_NAME}, {width}x{height}, one connection, p50: added to the image's own time"
    return Figure.of(name, added_ms, unit="ms", bound=0.6)


def _batch(agent: RunningAgent) -> Figure:
    content = jpeg(*SIZES[0]).read_bytes()
    with httpx.Client(base_url=agent.url, trust_env=False, timeout=30) as client:
        files = [("files", ("image.jpg", content, "image/jpeg"))] * _BATCH
        ratios = []
        for _ in range(10 * _ROUNDS):
            started_s = time.perf_counter()
            for _ in range(_BATCH):
                client.post("/predict", content=content).raise_for_status()
            between_s = time.perf_counter()
            client.post("/batch_predict", files=files).raise_for_status()
            ratios.append((time.perf_counter() - between_s) / (between_s - started_s))
    return Figure.of(f"a batch of {_BATCH} / {_BATCH} uploads one by one, {WORKERS} workers", ratios)


def _with_mqtt_and_tokens(plain: RunningAgent, model: Path) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as broker:
        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        agent = _agent(Path(folder), model, mqtt=mqtt)
        create = [str(agent.program), "token", "create", "bench", "--scope", "infer"]
        config = ["--config", str(Path(folder) / "agent.yaml")]
        token = subprocess.run([*create, *config], check=True, capture_output=True, text=True).stdout.strip()
        access = {"Authorization": f"Bearer {token}"}
        with agent:
            for width, height in SIZES:
                image = jpeg(width, height)
                beside = [bare_rate(model, image, for_s=_TURN_S)]
                costs = []
                for _ in range(_ROUNDS):
                    without = rate(plain, image, for_s=_TURN_S)
                    with_both = load(agent, image, for_s=_TURN_S, connections=_CONNECTIONS, access=access).per_s
                    beside.append(bare_rate(model, image, for_s=_TURN_S))
                    costs.append(without - with_both)
                around = [(before + after) / 2 for before, after in itertools.pairwise(beside)]
                name = f"{_NAME}, {width}x{height}: the ratio falls with MQTT and tokens by"
                ratios = [cost / rate_beside for cost, rate_beside in zip(costs, around, strict=True)]
                yield Figure.of(name, ratios, bound=0.03)

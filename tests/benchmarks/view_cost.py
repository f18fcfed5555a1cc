"""View cost: what a second view of the same camera takes beside its inference."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
from agents.fake_agent import FakeModels, identity
from benchmarks.figure import Figure

from agent.cameras.pictures import Pictures
from agent.cameras.pipeline import Pipeline
from agent.cameras.state import StableLabel
from agent.cameras.view import View
from agent.classification import Spot
from agent.frame import Frame
from agent.framing import Framing
from agent.host.throttling import never
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.options import Options
from agent.inference.results import Results
from agent.listeners import Listener
from agent.model_file.metadata import read_model_file
from agent.models.loader import LoadedModel
from agent.models.serving import ServedModel
from agent.runtimes.runtime import open_classifiers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.classification import Result

_ROUNDS, _FRAMES = 7, 100
_LEFT, _RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def figures(model: Path) -> Iterator[Figure]:
    for name, picture in _pictures():
        costs_ms = asyncio.run(_costs_ms(model.read_bytes(), picture))
        yield Figure.of(f"{name}: a second view beside its inference", costs_ms, unit="ms", bound=0.3)


def _pictures() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(3)
    for width, height in ((640, 480), (1920, 1080)):
        coarse = rng.uniform(40, 210, (9, 12, 3)).astype(np.float32)
        scene = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        yield f"MJPEG {width}x{height}", cv2.imencode(".jpg", np.clip(scene, 0, 255).astype(np.uint8))[1].tobytes()


class _Frames:
    has_own_pace = True

    def __init__(self, picture: bytes) -> None:
        self._picture = picture
        self._left = _FRAMES

    async def read(self) -> Frame | None:
        self._left -= 1
        return Frame(self._picture, time.monotonic_ns()) if self._left >= 0 else None


class _Inferences(Listener):
    """The time of each view's crops and inferences, without decoding."""

    def __init__(self) -> None:
        self.took_ms: list[float] = []

    def classified(self, result: Result) -> None:
        timing = result.classification.timing
        self.took_ms.append(timing.total - timing.decode)


async def _costs_ms(model: bytes, picture: bytes) -> list[float]:
    """For each round, the time of a frame with two views less that with one and less an inference."""
    file = read_model_file(model)
    models = FakeModels()
    classifiers = open_classifiers(file, file.settings, workers=1, threads=1)
    models.served["m"] = ServedModel(identity(1, "m"), LoadedModel(file, file.settings, classifiers))
    engine = InferenceEngine(workers=1, max_waiting=1, max_pixels=1 << 26)
    costs_ms = []
    try:
        await _run(engine, models, picture, [_LEFT])  # warms up
        for _ in range(_ROUNDS):
            (one_ms, one), (two_ms, both) = [
                await _run(engine, models, picture, regions) for regions in ([_LEFT], [_LEFT, _RIGHT])
            ]
            costs_ms.append((two_ms - both) - (one_ms - one))
    finally:
        engine.close()
    return costs_ms


async def _run(
    engine: InferenceEngine, models: FakeModels, picture: bytes, regions: list[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Milliseconds of each frame, and those of its inferences."""
    heard = _Inferences()
    plane = DataPlane(engine=engine, models=models, results=Results(device="d"), listener=heard)
    views = [
        View(
            Spot("front", str(number)),
            Options("m", framing=Framing(region)),
            data_plane=plane,
            listener=heard,
            stable=StableLabel(frames=3),
            pictures=Pictures(Framing(region)),
        )
        for number, region in enumerate(regions)
    ]
    pipeline = Pipeline(source=_Frames(picture), views=views, max_fps=1000, is_throttled=never)
    begun_s = time.perf_counter()
    await pipeline.run()
    each_ms = (time.perf_counter() - begun_s) / _FRAMES * 1e3
    return each_ms, statistics.mean(heard.took_ms) * len(regions)

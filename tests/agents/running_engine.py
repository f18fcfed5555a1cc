"""Running: an engine and a data plane for the digits model, whose workers a test can block."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import cv2
from agents.fake_agent import BlockingClassifier, FakeModels, served, serving
from agents.heard import Heard
from agents.models_on_disk import DIGIT_LABELS, digits, photo_of_3

from agent.classification import Spot
from agent.frame import Frame
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.options import Options
from agent.inference.results import Results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.classification import Classification, Timing
    from agent.runtimes.scores import Scores

    BlockedCall: TypeAlias = asyncio.Task[tuple[str, Timing]]

FRAME = Frame(photo_of_3(), captured_ns=0)
JPEG = cv2.imencode(".jpg", photo_of_3().pixels)[1].tobytes()
DIGIT = Options("digits")


class Served(FakeModels):
    """The digits model, which the test can swap."""

    def __init__(self, *, workers: int) -> None:
        super().__init__()
        self._workers = workers

    def swap(self, *, version: int, labels: Sequence[str] = DIGIT_LABELS) -> None:
        self.served["digits"] = served(digits(str(version), labels=labels), version, workers=self._workers)

    def try_out(self, *, version: int, labels: Sequence[str] = DIGIT_LABELS) -> None:
        """Adds a canary, which uploads without an explicit version get from now on."""
        self.canaries["digits"] = served(digits(str(version), labels=labels), version, workers=self._workers)


def best_label(scores: Scores, _: object) -> str:
    return scores.best(1)[0].label


class Running:
    def __init__(self, engine: InferenceEngine, models: Served) -> None:
        self.engine = engine
        self.models = models
        self.heard = Heard()
        self.data_plane = DataPlane(engine=engine, models=models, results=Results(device="test"), listener=self.heard)
        self._release = threading.Event()
        self._blocked: list[BlockedCall] = []

    async def block_worker(self) -> BlockedCall:
        """Starts a call that blocks its worker until release()."""
        arrived = threading.Event()
        classifiers = [BlockingClassifier(arrived, self._release) for _ in range(self.engine.workers)]
        call = asyncio.create_task(self.engine.compute(serving(classifiers), FRAME, DIGIT, best_label))
        self._blocked.append(call)
        await asyncio.to_thread(arrived.wait, 10)
        return call

    async def block_all_workers(self) -> None:
        """Blocks every worker until release()."""
        for _ in range(self.engine.workers):
            await self.block_worker()

    def release(self) -> None:
        self._release.set()

    async def close(self) -> None:
        self.release()
        await asyncio.gather(*self._blocked)
        self.engine.close()

    async def upload(self, content: bytes = JPEG, options: Options = DIGIT) -> Classification:
        return (await self.data_plane.classify(content, options, arrived_ns=0)).classification

    async def frame(self, options: Options = DIGIT, frame: Frame = FRAME) -> Classification:
        return (await self.data_plane.classify_frame(frame, options, spot=Spot("camera")))[0].classification


@asynccontextmanager
async def running(*, workers: int = 1, max_waiting: int = 2, max_pixels: int = 1 << 26) -> AsyncIterator[Running]:
    models = Served(workers=workers)
    models.swap(version=1)
    run = Running(InferenceEngine(workers=workers, max_waiting=max_waiting, max_pixels=max_pixels), models)
    try:
        yield run
    finally:
        await run.close()


async def started(*tasks: asyncio.Task[Classification]) -> None:
    """Lets every task run up to its first wait."""
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


def label(classification: Classification) -> str:
    return classification.categories[0].label

"""InferenceEngine: the one door to inference, a pool of worker threads with one interpreter each."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2

from agent.classification import Classification, Timing
from agent.errors import AgentError, BusyError, ModelError
from agent.image import Frame, decode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.image import Image
    from agent.models.serving import ServedModel

UPLOAD = "upload"  # the source of what comes by HTTP; no camera may have this name


class Models(Protocol):
    """Which version answers; `for_upload` gives now and then the canary, `observe` gets what came of each call."""

    def get(self, name: str | None, version: str | None = None) -> ServedModel: ...
    def for_upload(self, name: str | None, version: str | None = None) -> ServedModel: ...
    def observe(self, served: ServedModel, outcome: Classification | ModelError) -> None: ...


@dataclass(frozen=True, slots=True)
class View:
    """Which part of a frame to classify and what to report of it; `region` as fractions of the sides.

    `version` is `stable`, `canary` or a number; None leaves it to the models.
    """

    model: str | None = None
    max_results: int = 5
    score_threshold: float = 0.0
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    rotate: int = 0
    version: str | None = None


class InferenceEngine:
    """Decode, preprocess and invoke run in the workers; everything else on the event loop's thread."""

    def __init__(
        self,
        *,
        models: Models,
        workers: int,
        max_waiting: int,
        max_pixels: int,
        on_outcome: Callable[[str, str | None, Classification | AgentError], None],
    ) -> None:
        """`on_outcome` gets the source, the model asked for and what came of it, for every call, on the loop."""
        cv2.setNumThreads(1)  # the workers are the parallelism; OpenCV's own pool would only contend with them
        self._models = models
        self._max_uploads = workers + max_waiting
        self._max_pixels = max_pixels
        self._on_outcome = on_outcome
        self._uploads = 0
        self._started_s: dict[int, float] = {}
        self._worker = threading.local()
        numbers = itertools.count()
        self._pool = ThreadPoolExecutor(
            workers, "worker", initializer=lambda: setattr(self._worker, "number", next(numbers))
        )
        self.workers = workers

    async def classify_frame(self, frame: Frame, view: View, *, source: str) -> Classification:
        """Never refused for want of a place: a camera has at most one frame in flight.

        Raises ModelNotFoundError, and ModelError when the runtime fails on this frame.
        """
        return await self._observed(source, view.model, self._frame(frame, view))

    async def classify_upload(self, content: bytes, view: View) -> Classification:
        """Raises ImageError, ModelNotFoundError, ModelError, and BusyError at once when the line is full."""
        return await self._observed(UPLOAD, view.model, self._upload(content, view))

    @property
    def oldest_call_s(self) -> float:
        """Seconds for which the longest call now in a worker has been running; 0 when all are idle."""
        started_s = list(self._started_s.values())
        return time.monotonic() - min(started_s) if started_s else 0.0

    def close(self) -> None:
        """Takes no more calls; does not wait for one that hangs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _frame(self, frame: Frame, view: View) -> Classification:
        served = self._models.get(view.model, view.version)
        return await self._in_worker(served, lambda: (frame.image, 0.0), view)

    async def _upload(self, content: bytes, view: View) -> Classification:
        if self._uploads >= self._max_uploads:
            raise BusyError(f"All {self._max_uploads} places in line are taken. Try again.", retry_after_s=1)
        self._uploads += 1
        try:
            served = self._models.for_upload(view.model, view.version)
            side = served.longest_side
            return await self._in_worker(served, lambda: _timed_decode(content, self._max_pixels, side), view)
        finally:
            self._uploads -= 1

    async def _observed(self, source: str, model: str | None, call: Awaitable[Classification]) -> Classification:
        try:
            classification = await call
        except AgentError as error:
            self._on_outcome(source, model, error)
            raise
        self._on_outcome(source, model, classification)
        return classification

    async def _in_worker(
        self, served: ServedModel, load: Callable[[], tuple[Image, float]], view: View
    ) -> Classification:
        """`served` was taken once: one version's labels, preprocessing and interpreters to the end."""
        loop = asyncio.get_running_loop()
        try:
            classification = await loop.run_in_executor(self._pool, self._classify, served, load, view)
        except ModelError as error:
            self._models.observe(served, error)
            raise
        self._models.observe(served, classification)
        return classification

    def _classify(self, served: ServedModel, load: Callable[[], tuple[Image, float]], view: View) -> Classification:
        number: int = self._worker.number
        self._started_s[number] = time.monotonic()
        started = time.perf_counter()
        try:
            image, decode_ms = load()
            prepared = time.perf_counter()
            if view.region != (0.0, 0.0, 1.0, 1.0):
                image = image.crop(view.region)
            image = image.rotate(view.rotate)
            turn_ms = (time.perf_counter() - prepared) * 1e3
            categories, spent = served.classifier(number).classify(
                image, max_results=view.max_results, score_threshold=view.score_threshold
            )
        finally:
            del self._started_s[number]
        total_ms = (time.perf_counter() - started) * 1e3
        timing = Timing(decode_ms, turn_ms + spent.preprocess, spent.invoke, total_ms, spent.processor)
        return Classification(served.identity, categories, timing)


def _timed_decode(content: bytes, max_pixels: int, smallest_side: int) -> tuple[Image, float]:
    started = time.perf_counter()
    image = decode(content, max_pixels=max_pixels, smallest_side=smallest_side)
    return image, (time.perf_counter() - started) * 1e3

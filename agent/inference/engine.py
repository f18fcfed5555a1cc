"""InferenceEngine: a pool of worker threads, each with an interpreter of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import cv2

from agent.classification import Timing
from agent.errors import BusyError
from agent.image import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from agent.image import Image
    from agent.inference.options import Options
    from agent.models.serving import ServedModel
    from agent.runtimes.scores import Scores

T = TypeVar("T")


class InferenceEngine:
    """Decoding, preprocessing and invoking run in the workers; everything else on the event loop's thread."""

    def __init__(self, *, workers: int, max_waiting: int, max_pixels: int) -> None:
        cv2.setNumThreads(1)  # the workers are the parallelism; OpenCV's own pool would only contend with them
        self._max_uploads = workers + max_waiting
        self._max_pixels = max_pixels
        self._uploads = 0
        self._started_s: dict[int, float] = {}
        self._worker = threading.local()
        numbers = itertools.count()
        self._pool = ThreadPoolExecutor(
            workers, "worker", initializer=lambda: setattr(self._worker, "number", next(numbers))
        )
        self.workers = workers

    @contextlib.contextmanager
    def place(self) -> Generator[None]:
        """A place in the line of uploads while it is open. Raises BusyError at once if all are taken.

        Frames need none: a camera has at most one in flight.
        """
        if self._uploads >= self._max_uploads:
            raise BusyError(f"All {self._max_uploads} places in the queue are taken. Retry later.", retry_after_s=1)
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    async def compute(
        self, served: ServedModel, image: bytes | Image, options: Options, take: Callable[[Scores], T]
    ) -> tuple[T, Timing]:
        """What `take` makes of the scores, in the worker, and how long all of it took.

        `served` answers from beginning to end: labels, preprocessing and interpreters of one version. Raises
        ImageError for bytes that do not decode, ModelError if the runtime fails on this image.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._in_worker, served, image, options, take)

    @property
    def oldest_call_s(self) -> float:
        """Seconds for which the longest call now in a worker has been running; 0 when all are idle."""
        started_s = list(self._started_s.values())
        return time.monotonic() - min(started_s) if started_s else 0.0

    def close(self) -> None:
        """Takes no more calls; does not wait for one that hangs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _in_worker(
        self, served: ServedModel, image: bytes | Image, options: Options, take: Callable[[Scores], T]
    ) -> tuple[T, Timing]:
        number: int = self._worker.number
        self._started_s[number] = time.monotonic()
        started = time.perf_counter()
        try:
            if isinstance(image, bytes):
                image = decode(image, max_pixels=self._max_pixels, smallest_side=served.longest_side)
                decoded = time.perf_counter()
            else:
                decoded = started
            if options.region != (0.0, 0.0, 1.0, 1.0):
                image = image.crop(options.region)
            image = image.rotate(options.rotate)
            framed = time.perf_counter()
            scores, spent = served.classifier(number).scores(image)
            taken = take(scores)
        finally:
            del self._started_s[number]
        decode_ms, frame_ms = (decoded - started) * 1e3, (framed - decoded) * 1e3
        total_ms = (time.perf_counter() - started) * 1e3
        return taken, Timing(decode_ms, frame_ms + spent.preprocess, spent.invoke, total_ms, spent.cpu)

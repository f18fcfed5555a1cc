"""InferenceEngine: a pool of worker threads, each with its own interpreter."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import cv2
import numpy as np

from agent.classification import Timing
from agent.errors import BusyError
from agent.frame import Frame
from agent.image import decode
from agent.inference.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy.typing as npt

    from agent.image import Encoded
    from agent.inference.inferred import Outputs
    from agent.inference.options import Options
    from agent.models.serving import ServedModel
    from agent.runtimes.scores import Scores

T = TypeVar("T")
# Makes the result of a call of the scores and, if it calls the second one, of all outputs.
Take: TypeAlias = "Callable[[Scores, Callable[[], Outputs]], T]"
Instance: TypeAlias = "Encoded | Frame | npt.NDArray[np.generic]"  # an upload, a frame, or a tensor for the model


class InferenceEngine:
    """Decodes, preprocesses and invokes in the workers; the rest runs on the event loop's thread."""

    def __init__(self, *, workers: int, max_waiting: int, max_pixels: int) -> None:
        cv2.setNumThreads(1)  # the workers already run in parallel; OpenCV's own threads would only compete with them
        self._max_uploads = workers + max_waiting
        self._max_pixels = max_pixels
        self._uploads = 0
        self._started_s: dict[int, float] = {}
        self._workers = Workers(workers)
        self.workers = workers

    @contextlib.contextmanager
    def place(self, count: int = 1) -> Generator[None]:
        """Holds `count` places in the queue of uploads while it is open. Raises BusyError at once if they are taken.

        Frames need no place: a camera has at most one frame in flight.
        """
        if self._uploads + count > self._max_uploads:
            raise BusyError(f"All {self._max_uploads} places in the queue are taken. Retry later.", retry_after_s=1)
        self._uploads += count
        try:
            yield
        finally:
            self._uploads -= count

    async def compute(
        self, served: ServedModel, instance: Instance, options: Options, take: Take[T]
    ) -> tuple[T, Timing]:
        """Returns the result of `take`, which runs in the worker after the call, and the time of each step.

        `served` is used for the whole call: labels, preprocessing and interpreter are of the same version. Raises
        ImageError for bytes that cannot be decoded, TensorError for values that no model can take, ModelError if the
        runtime fails on this instance.
        """
        put = time.perf_counter()
        return await self._workers.run(
            lambda worker: self._in_worker(worker, served, instance, options, take=take, put=put)
        )

    @property
    def oldest_call_s(self) -> float:
        """Seconds that the longest current call of a worker has been running; 0 if all workers are idle."""
        started_s = list(self._started_s.values())
        return time.monotonic() - min(started_s) if started_s else 0.0

    def close(self) -> None:
        """Accepts no more calls; does not wait for a call that hangs."""
        self._workers.close()

    def _in_worker(
        self,
        worker: int,
        served: ServedModel,
        instance: Instance,
        options: Options,
        *,
        take: Take[T],
        put: float,
    ) -> tuple[T, Timing]:
        self._started_s[worker] = time.monotonic()
        started = decoded = framed = time.perf_counter()
        try:
            classifier = served.classifier(worker)
            if isinstance(instance, np.ndarray):
                scores, spent = classifier.scores_of_tensor(instance)
            else:
                side, limit = options.framing.side_of_whole(served.smallest_side), self._max_pixels
                if isinstance(instance, Frame):
                    image = instance.image(side, max_pixels=limit)
                    decoded = started if image is instance.picture else time.perf_counter()
                else:
                    image = decode(instance, max_pixels=limit, smallest_side=side)
                    decoded = time.perf_counter()
                image = options.framing.of(image)
                framed = time.perf_counter()
                scores, spent = classifier.scores(image)
            taken = take(scores, classifier.outputs)
        finally:
            del self._started_s[worker]
        decode_ms, frame_ms = (decoded - started) * 1e3, (framed - decoded) * 1e3
        total_ms, queue_ms = (time.perf_counter() - started) * 1e3, (started - put) * 1e3
        return taken, Timing(decode_ms, frame_ms + spent.preprocess, spent.invoke, total_ms, spent.cpu, queue_ms)

"""InferenceEngine: worker threads, each with its own interpreter, and batches for models that compute some."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import cv2
import numpy as np

from agent.classification import Timing
from agent.errors import BusyError, ModelError
from agent.frame import Frame
from agent.image import check_header, decode
from agent.inference.batching import Batching
from agent.inference.workers import Workers
from agent.runtimes.classifier import blamed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy.typing as npt

    from agent.image import Encoded, Image
    from agent.inference.batching import BatchQueue, OnBatch
    from agent.inference.inferred import Outputs
    from agent.inference.options import Options
    from agent.models.serving import ServedModel
    from agent.runtimes.scores import Scores

T = TypeVar("T")
# Makes the result of a call of the scores and, if it calls the second one, of all outputs.
Take: TypeAlias = "Callable[[Scores, Callable[[], Outputs]], T]"
# An upload, a frame, or a tensor for the model: an array of objects holds the bytes that a model decodes itself.
Instance: TypeAlias = "Encoded | Frame | npt.NDArray[np.generic]"


class InferenceEngine:
    """Decodes, preprocesses and invokes in the workers; the rest runs on the event loop's thread.

    Of a model that computes batches, the workers only decode and preprocess.
    """

    def __init__(
        self,
        *,
        workers: int,
        max_waiting: int,
        max_pixels: int,
        batch_threads: int = 1,
        batch_timeout_s: float = 0.002,
        on_batch: OnBatch = lambda _model, _size: None,
    ) -> None:
        cv2.setNumThreads(1)  # the workers already run in parallel; OpenCV's own threads would only compete with them
        self._max_uploads = workers + max_waiting
        self._max_pixels = max_pixels
        self._uploads = 0
        self._started_s: dict[int, float] = {}
        self._workers = Workers(workers)
        self._batching = Batching(threads=batch_threads, timeout_s=batch_timeout_s, on_batch=on_batch)
        self.workers = workers

    def at_once(self, served: ServedModel) -> int:
        """How many instances of one request are computed at the same time, if places are free."""
        queue = self._batching.queue_of(served)
        return self.workers if queue is None else max(self.workers, queue.sizes.best * self._batching.threads)

    @contextlib.contextmanager
    def place(self, count: int = 1) -> Generator[None]:
        """Holds `count` places in the queue of uploads while it is open. Raises BusyError at once if they are taken.

        Each place bounds the memory of one prepared image, also while it waits for a batch. Frames need no place: a
        view has at most one frame in flight.
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
        """Returns the result of `take`, which runs after the call, and the time of each step.

        `served` is used for the whole call: labels, preprocessing and interpreter are of the same version. Raises
        ImageError for bytes that cannot be decoded, TensorError for values that no model can take, ModelError if the
        runtime fails on this instance, MemoryFullError.
        """
        put = time.perf_counter()
        if (queue := self._batching.queue_of(served)) is not None:
            return await self._in_batch(queue, served, instance, options, take=take, put=put)
        return await self._workers.run(
            lambda worker: self._in_worker(worker, served, instance, options, take=take, put=put)
        )

    @property
    def oldest_call_s(self) -> float:
        """Seconds that the longest current call of a thread has been running; 0 if all threads are idle."""
        started_s = [*self._started_s.values(), *self._batching.started_s]
        return time.monotonic() - min(started_s) if started_s else 0.0

    def close(self) -> None:
        """Accepts no more calls; does not wait for a call that hangs."""
        self._batching.close()
        self._workers.close()

    async def _in_batch(
        self,
        queue: BatchQueue,
        served: ServedModel,
        instance: Instance,
        options: Options,
        *,
        take: Take[T],
        put: float,
    ) -> tuple[T, Timing]:
        with self._batching.preparing(queue):
            prepared = await self._workers.run(
                lambda worker: self._prepared(worker, served, queue, instance, options, put=put)
            )
            tensor, before = prepared
            waiting = self._batching.put(queue, tensor)
        del prepared, tensor
        try:
            computed = await waiting
            read = time.perf_counter()
            scores = queue.classifier.read_row(computed.row)
        except ModelError as error:
            if isinstance(instance, np.ndarray):
                raise blamed(error) from None
            raise
        taken = take(scores, lambda: queue.classifier.as_served(computed.row.__getitem__))
        total_ms = before.total + computed.invoke_ms + (time.perf_counter() - read) * 1e3
        return taken, Timing(
            before.decode,
            before.preprocess,
            computed.invoke_ms,
            total_ms,
            computed.cpu_ms,
            before.queue + computed.queue_ms,
        )

    def _prepared(
        self,
        worker: int,
        served: ServedModel,
        queue: BatchQueue,
        instance: Instance,
        options: Options,
        *,
        put: float,
    ) -> tuple[npt.NDArray[np.generic], Timing]:
        """The tensor of an instance; the times are those until then."""
        self._started_s[worker] = time.monotonic()
        started = time.perf_counter()
        try:
            if isinstance(instance, np.ndarray):
                decode_ms = 0.0
                tensor = queue.classifier.tensor_of(self._checked(instance))
            else:
                image, decode_ms = self._decoded(served, instance, options)
                tensor = queue.classifier.tensor(options.framing.of(image))
        finally:
            del self._started_s[worker]
        total_ms = (time.perf_counter() - started) * 1e3
        return tensor, Timing(decode_ms, total_ms - decode_ms, 0.0, total_ms, queue=(started - put) * 1e3)

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
        started = time.perf_counter()
        decode_ms = frame_ms = 0.0
        try:
            classifier = served.classifier(worker)
            if isinstance(instance, np.ndarray):
                scores, spent = classifier.scores_of_tensor(self._checked(instance))
            else:
                image, decode_ms = self._decoded(served, instance, options)
                framed = time.perf_counter()
                image = options.framing.of(image)
                frame_ms = (time.perf_counter() - framed) * 1e3
                scores, spent = classifier.scores(image)
            taken = take(scores, classifier.outputs)
        finally:
            del self._started_s[worker]
        total_ms, queue_ms = (time.perf_counter() - started) * 1e3, (started - put) * 1e3
        return taken, Timing(decode_ms, frame_ms + spent.preprocess, spent.invoke, total_ms, spent.cpu, queue_ms)

    def _decoded(self, served: ServedModel, instance: Encoded | Frame, options: Options) -> tuple[Image, float]:
        """The image, and the milliseconds that its decoding took; 0 if it arrived as pixels."""
        side, limit = options.framing.side_of_whole(served.smallest_side), self._max_pixels
        started = time.perf_counter()
        if isinstance(instance, Frame):
            image = instance.image(side, max_pixels=limit)
            if image is instance.picture:
                return image, 0.0
        else:
            image = decode(instance, max_pixels=limit, smallest_side=side)
        return image, (time.perf_counter() - started) * 1e3

    def _checked(self, instance: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Bytes that the model decodes must not have more pixels than those that the agent decodes."""
        if instance.dtype == object:
            check_header(instance.item(), max_pixels=self._max_pixels)
        return instance

"""Batching: collects the instances of a model into batches, which threads of their own compute.

A batch starts when a thread is free and one of three holds: as many instances wait as the fastest batch has, the first
of them has waited for the timeout, or no other instance of the model is being prepared.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from agent.errors import AgentError, MemoryFullError
from agent.inference.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from agent.classification import ModelIdentity
    from agent.models.loader import LoadedModel
    from agent.models.serving import ServedModel
    from agent.runtimes.batch_classifier import Array, BatchClassifier, Row
    from agent.runtimes.batch_sizes import BatchSizes

    OnBatch: TypeAlias = Callable[[ModelIdentity, int], None]


class Computed(NamedTuple):
    """What the model returned for one instance. Milliseconds; `invoke` is of the whole batch, `cpu` the share of it."""

    row: Row
    queue_ms: float
    invoke_ms: float
    cpu_ms: float


@dataclass(slots=True, eq=False)
class _Instance:
    """`is_due`: it has waited for the timeout."""

    tensor: Array
    future: asyncio.Future[Computed]
    put: float
    timer: asyncio.TimerHandle | None = None
    is_due: bool = False


class _Outcome(NamedTuple):
    """Of a batch. If it failed as a whole, each instance was computed alone, so that only the guilty ones fail."""

    rows: Sequence[Row | AgentError]
    started: float
    invoke_ms: float
    cpu_ms: float
    ran_out: bool


class BatchQueue:
    """The instances of one loaded model that wait for a batch."""

    def __init__(self, served: ServedModel, classifier: BatchClassifier, sizes: BatchSizes) -> None:
        self.identity = served.identity
        self.classifier = classifier
        self.sizes = sizes
        self.preparing = 0
        self.waiting: deque[_Instance] = deque()

    @property
    def first(self) -> float:
        """When the first of those that wait arrived."""
        return self.waiting[0].put

    @property
    def is_ready(self) -> bool:
        waiting = self.waiting
        for instance in [each for each in waiting if each.future.done()]:  # its caller was canceled
            waiting.remove(instance)
            _stop_timer(instance)
        if not waiting:
            return False
        return waiting[0].is_due or self.preparing == 0 or len(waiting) >= self.sizes.best

    def next_batch(self) -> list[_Instance]:
        batch = [self.waiting.popleft() for _ in range(self.sizes.next_of(len(self.waiting)))]
        for instance in batch:
            _stop_timer(instance)
        return batch


class Batching:
    """The queues of all models that compute batches. On the event loop's thread, but for computing."""

    def __init__(self, *, threads: int, timeout_s: float, on_batch: OnBatch) -> None:
        """`on_batch` gets the size of every batch that was computed."""
        self._workers = Workers(threads, name="batch")
        self._free = self.threads = threads
        self._is_closed = False
        self._timeout_s = timeout_s
        self._on_batch = on_batch
        self._queues: WeakKeyDictionary[LoadedModel, BatchQueue] = WeakKeyDictionary()
        self._started_s: dict[int, float] = {}

    def queue_of(self, served: ServedModel) -> BatchQueue | None:
        """None for a model that computes one image at a time. A version keeps its queue until its last call ends."""
        queue = self._queues.get(served.loaded)
        if queue is None and (found := served.batches) is not None:
            queue = self._queues[served.loaded] = BatchQueue(served, *found)
        return queue

    @contextmanager
    def preparing(self, queue: BatchQueue) -> Generator[None]:
        """Open it until put(): a batch waits for what is being prepared, but not longer than the timeout."""
        queue.preparing += 1
        try:
            yield
        finally:
            queue.preparing -= 1
            self._start()

    def put(self, queue: BatchQueue, tensor: Array) -> asyncio.Future[Computed]:
        """Call it while preparing() is open. Raises what the classifier raises for this instance."""
        loop = asyncio.get_running_loop()
        instance = _Instance(tensor, loop.create_future(), time.perf_counter())
        if self._is_closed:
            instance.future.cancel()
            return instance.future
        instance.timer = loop.call_later(self._timeout_s, self._due, instance)
        queue.waiting.append(instance)
        return instance.future

    @property
    def started_s(self) -> list[float]:
        """When the batches that are being computed started (time.monotonic())."""
        return list(self._started_s.values())

    def close(self) -> None:
        """Cancels what waits, and what is being prepared; does not wait for a batch that hangs."""
        self._is_closed = True
        for queue in self._queues.values():
            for instance in queue.waiting:
                instance.future.cancel()
        self._workers.close()

    def _due(self, instance: _Instance) -> None:
        instance.is_due = True
        self._start()

    def _start(self) -> None:
        """Gives every free thread a batch, of the model that has waited longest."""
        while self._free:
            ready = [queue for queue in self._queues.values() if queue.is_ready]
            if not ready:
                return
            queue = min(ready, key=lambda each: each.first)
            self._compute(queue, queue.next_batch())

    def _compute(self, queue: BatchQueue, batch: list[_Instance]) -> None:
        self._free -= 1
        tensors = [instance.tensor for instance in batch]
        classifier = queue.classifier
        done = self._workers.run(lambda thread: self._in_thread(thread, classifier, tensors))
        done.add_done_callback(lambda future: self._done(queue, batch, future))

    def _in_thread(self, thread: int, classifier: BatchClassifier, tensors: list[Array]) -> _Outcome:
        self._started_s[thread] = time.monotonic()
        started, cpu_s = time.perf_counter(), time.thread_time()
        try:
            rows, ran_out = computed_alone_if_together_fails(classifier, tensors)
        finally:
            del self._started_s[thread]
        cpu_s, took_s = time.thread_time() - cpu_s, time.perf_counter() - started
        return _Outcome(rows, started, took_s * 1e3, cpu_s * 1e3 / len(tensors), ran_out)

    def _done(self, queue: BatchQueue, batch: list[_Instance], done: asyncio.Future[_Outcome]) -> None:
        if done.cancelled():  # the engine was closed
            for instance in batch:
                instance.future.cancel()
            return
        self._free += 1
        if (error := done.exception()) is not None:
            for instance in batch:
                _settle(instance.future, error)
        else:
            self._settle_all(queue, batch, done.result())
        self._start()

    def _settle_all(self, queue: BatchQueue, batch: list[_Instance], outcome: _Outcome) -> None:
        self._on_batch(queue.identity, len(batch))
        if outcome.ran_out:
            queue.sizes = queue.sizes.below(len(batch))
        for instance, row in zip(batch, outcome.rows, strict=True):
            if isinstance(row, AgentError):
                _settle(instance.future, row)
            else:
                queue_ms = (outcome.started - instance.put) * 1e3
                _settle(instance.future, Computed(row, queue_ms, outcome.invoke_ms, outcome.cpu_ms))


def computed_alone_if_together_fails(
    classifier: BatchClassifier, tensors: Sequence[Array]
) -> tuple[Sequence[Row | AgentError], bool]:
    """The row or the error of each instance, and whether the memory was too small for all together."""
    try:
        return classifier.compute(tensors), False
    except AgentError as error:
        if len(tensors) == 1:
            return [error.with_traceback(None)], False
        ran_out = isinstance(error, MemoryFullError)
    rows: list[Row | AgentError] = []
    for tensor in tensors:
        rows.extend(computed_alone_if_together_fails(classifier, [tensor])[0])
    return rows, ran_out


def _settle(future: asyncio.Future[Computed], outcome: Computed | BaseException) -> None:
    if future.done():  # its caller was canceled
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _stop_timer(instance: _Instance) -> None:
    if instance.timer is not None:
        instance.timer.cancel()

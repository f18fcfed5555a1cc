"""DataPlane: classifies an image or a tensor, records the Result and announces it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from agent.classification import UPLOAD, Classification
from agent.errors import AgentError, BusyError, ImageError, ModelError, ModelNotFoundError, TensorError
from agent.inference.inferred import Inferred, with_scores
from agent.inference.inferring import most_places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from agent.classification import Category, Result, Spot, Timing
    from agent.frame import Frame
    from agent.image import Encoded
    from agent.inference.engine import InferenceEngine, Instance, Take
    from agent.inference.inferred import Outputs
    from agent.inference.options import Options
    from agent.inference.results import Results
    from agent.listeners import Listener
    from agent.models.serving import ServedModel
    from agent.runtimes.scores import Scores

    _Taken: TypeAlias = tuple[tuple[Category, ...], Scores, Outputs, Outputs]
    Sent: TypeAlias = bytes | npt.NDArray[np.generic]  # an encoded image, or a tensor for the model

MAX_INSTANCES = 64

T = TypeVar("T")


class Models(Protocol):
    """Chooses the version. `for_upload` may return the canary; `observe` gets the outcome of each call."""

    def get(self, name: str | None, version: str | None = None) -> ServedModel: ...
    def for_upload(self, name: str | None, version: str | None = None) -> ServedModel: ...
    def observe(self, served: ServedModel, outcome: Timing | ModelError) -> None: ...


class DataPlane:
    """HTTP, MQTT and the cameras share one data plane and its engine. Call it on the event loop's thread."""

    def __init__(self, *, engine: InferenceEngine, models: Models, results: Results, listener: Listener) -> None:
        self._engine = engine
        self._models = models
        self._results = results
        self._listener = listener

    @property
    def workers(self) -> int:
        """How many images are classified in parallel."""
        return self._engine.workers

    async def classify(self, image: Encoded, options: Options, *, arrived_ns: int) -> Result:
        """Classifies an uploaded JPEG, PNG, WebP or BMP that arrived at `arrived_ns` (time.monotonic_ns()).

        Raises BusyError at once if the queue is full or the memory too small, ModelNotFoundError, ImageError,
        ModelError.
        """
        with contextlib.ExitStack() as place:
            try:
                place.enter_context(self._engine.place())
            except BusyError as error:
                self._listener.refused(UPLOAD.camera, options.model, error, by=None)
                raise
            served = self.choose(options)
            result, _ = await self._result(served, image, options, UPLOAD, captured_ns=arrived_ns)
            return result

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        """Also returns the scores of all labels. Raises ModelNotFoundError, ImageError, ModelError, BusyError."""
        try:
            served = self._models.get(options.model, options.version)
        except ModelNotFoundError as error:
            self._listener.refused(spot.camera, options.model, error, by=None)
            raise
        return await self._result(served, frame, options, spot, captured_ns=frame.captured_ns)

    def choose(self, options: Options) -> ServedModel:
        """The version for all instances of one request; may be the canary. Raises ModelNotFoundError."""
        try:
            return self._models.for_upload(options.model, options.version)
        except ModelNotFoundError as error:
            self._listener.refused(UPLOAD.camera, options.model, error, by=None)
            raise

    def at_once(self, served: ServedModel, instances: int) -> list[int]:
        """How many of that many instances of one request may run in parallel, the most first.

        The last is what the workers compute; more only fill batches, if they find free places.
        """
        most, least = min(instances, self._engine.at_once(served)), min(instances, self.workers)
        counts = []
        while most > least:
            counts.append(most)
            most //= 2
        return [*counts, least]

    async def infer(
        self,
        served: ServedModel,
        instances: Sequence[Sent],
        options: Options,
        *,
        arrived_ns: int,
        at_most: int | None = None,
    ) -> list[Inferred]:
        """Runs encoded images and tensors in the form of `served.signature.input`; `served` is from choose().

        As many run in parallel as at_once() says, but not more than `at_most`. The first error ends the request; the
        Results of instances that ran before it stay. Raises TensorError for wrong shapes and types before anything
        runs, and what classify() raises.
        """
        with contextlib.ExitStack() as places:
            try:
                checked = _checked(instances, served)
                counts = self.at_once(served, min(len(checked), at_most or len(checked)))
                parallel = most_places(self._engine.place, counts, places)
            except (BusyError, TensorError) as error:
                self._listener.refused(UPLOAD.camera, options.model, error, by=None)
                raise
            if len(checked) == 1:
                return [await self._inferred(served, checked[0], options, arrived_ns)]
            return await self._inferred_in_parallel(served, checked, options, arrived_ns, parallel)

    async def _inferred_in_parallel(
        self, served: ServedModel, instances: Sequence[Instance], options: Options, arrived_ns: int, parallel: int
    ) -> list[Inferred]:
        waiting, done = deque(enumerate(instances)), {}

        async def work() -> None:
            while waiting:
                index, instance = waiting.popleft()
                try:
                    done[index] = await self._inferred(served, instance, options, arrived_ns)
                except AgentError as error:
                    waiting.clear()
                    raise _numbered(error, index) from None

        _raise_first(await asyncio.gather(*(work() for _ in range(parallel)), return_exceptions=True))
        return [done[index] for index in range(len(instances))]

    async def _inferred(self, served: ServedModel, instance: Instance, options: Options, arrived_ns: int) -> Inferred:
        def taken(scores: Scores, outputs: Callable[[], Outputs]) -> _Taken:
            raw = outputs()
            return _best(scores, options), scores, with_scores(raw, scores), raw

        (categories, scores, outputs, raw), timing = await self._computed(served, instance, options, taken, UPLOAD)
        result = self._recorded(served, categories, timing, UPLOAD, captured_ns=arrived_ns)
        return Inferred(result, scores, outputs, next(iter(raw.values())))

    async def _result(
        self, served: ServedModel, image: Instance, options: Options, spot: Spot, *, captured_ns: int
    ) -> tuple[Result, Scores]:
        def best(scores: Scores, _: Callable[[], Outputs]) -> tuple[tuple[Category, ...], Scores]:
            return _best(scores, options), scores

        (categories, scores), timing = await self._computed(served, image, options, best, spot)
        return self._recorded(served, categories, timing, spot, captured_ns=captured_ns), scores

    async def _computed(
        self,
        served: ServedModel,
        instance: Instance,
        options: Options,
        take: Take[T],
        spot: Spot,
    ) -> tuple[T, Timing]:
        try:
            return await self._engine.compute(served, instance, options, take)
        except ModelError as error:
            self._models.observe(served, error)
            self._listener.refused(spot.camera, options.model, error, by=served.identity)
            raise
        except AgentError as error:
            self._listener.refused(spot.camera, options.model, error, by=None)
            raise

    def _recorded(
        self,
        served: ServedModel,
        categories: tuple[Category, ...],
        timing: Timing,
        spot: Spot,
        *,
        captured_ns: int,
    ) -> Result:
        self._models.observe(served, timing)
        classification = Classification(served.identity, categories, timing)
        result = self._results.record(classification, spot=spot, captured_ns=captured_ns)
        self._listener.classified(result)
        return result


def _best(scores: Scores, options: Options) -> tuple[Category, ...]:
    return scores.best(options.max_results, threshold=scores.threshold(options.score_threshold))


def _raise_first(errors: Sequence[BaseException | None]) -> None:
    error = next((each for each in errors if each is not None), None)
    try:
        if error is not None:
            raise error
    finally:
        del error, errors  # an error holds this frame; if that held the error, both would keep the instances


def _checked(instances: Sequence[Sent], served: ServedModel) -> Sequence[Instance]:
    """For a model that decodes images itself, encoded images are its tensors."""
    if not 1 <= len(instances) <= MAX_INSTANCES:
        raise TensorError(f"The request has {len(instances)} instances. Send 1 to {MAX_INSTANCES}.")
    signature = served.signature
    for index, instance in enumerate(instances):
        if not isinstance(instance, bytes):
            try:
                signature.check_input(instance)
            except TensorError as error:
                raise (_numbered(error, index) if len(instances) > 1 else error) from None
    if not signature.takes_files:
        return instances
    return [np.array(each, object) if isinstance(each, bytes) else each for each in instances]


def _numbered(error: AgentError, index: int) -> AgentError:
    """With the instance that a client must correct."""
    return type(error)(f"Instance {index}: {error}") if isinstance(error, ImageError | TensorError) else error

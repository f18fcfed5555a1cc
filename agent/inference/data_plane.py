"""DataPlane: classifies an image, records the Result and announces it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from agent.classification import Classification
from agent.errors import AgentError, BusyError, ModelError, ModelNotFoundError
from agent.inference.options import UPLOAD

if TYPE_CHECKING:
    from agent.classification import Category, Result, Timing
    from agent.image import Frame, Image
    from agent.inference.engine import InferenceEngine
    from agent.inference.options import Options
    from agent.inference.results import Results
    from agent.listeners import Listener
    from agent.models.serving import ServedModel
    from agent.runtimes.scores import Scores


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

    async def classify(self, image: bytes, options: Options, *, arrived_ns: int) -> Result:
        """Classifies an uploaded JPEG, PNG, WebP or BMP that arrived at `arrived_ns` (Unix time).

        Raises BusyError at once if the queue is full, ModelNotFoundError, ImageError, ModelError.
        """
        try:
            with self._engine.place():
                served = self._models.for_upload(options.model, options.version)
                return await self._result(served, image, options, source=UPLOAD, captured_ns=arrived_ns)
        except (BusyError, ModelNotFoundError) as error:
            self._listener.refused(UPLOAD, options.model, error, by=None)
            raise

    async def classify_frame(self, frame: Frame, options: Options, *, source: str) -> Result:
        """Classifies a frame of the camera `source`. Raises ModelNotFoundError, ModelError."""
        try:
            served = self._models.get(options.model, options.version)
        except ModelNotFoundError as error:
            self._listener.refused(source, options.model, error, by=None)
            raise
        return await self._result(served, frame.image, options, source=source, captured_ns=frame.captured_ns)

    async def _result(
        self, served: ServedModel, image: bytes | Image, options: Options, *, source: str, captured_ns: int
    ) -> Result:
        def best(scores: Scores) -> tuple[Category, ...]:
            return scores.best(options.max_results, threshold=options.score_threshold)

        try:
            categories, timing = await self._engine.compute(served, image, options, best)
        except ModelError as error:
            self._models.observe(served, error)
            self._listener.refused(source, options.model, error, by=served.identity)
            raise
        except AgentError as error:
            self._listener.refused(source, options.model, error, by=None)
            raise
        self._models.observe(served, timing)
        classification = Classification(served.identity, categories, timing)
        result = self._results.record(classification, source=source, captured_ns=captured_ns)
        self._listener.classified(result)
        return result

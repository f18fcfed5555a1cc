"""An agent without a model manager: the REST application with models that the test sets."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from agents.models_on_disk import DIGITS

from agent.classification import Category, Classification, ModelIdentity, Spot, Timing
from agent.collection.folder import CollectionFolder
from agent.errors import ModelNotFoundError, ProfileNotFoundError
from agent.inference.results import Results
from agent.inference.share import places_for_uploads
from agent.model_file.metadata import read_model_file
from agent.models.loader import LoadedModel
from agent.models.serving import ServedModel
from agent.rest.app import Limits, create_app
from agent.rest.front import Reach
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.tflite import TFLiteClassifier
from agent.security.access import AccessRules
from agent.status import ModelStatus, ProfileStatus, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    from starlette.types import ASGIApp

    from agent.classification import Result
    from agent.errors import AgentError, ModelError
    from agent.inference.data_plane import Sent
    from agent.inference.inferred import Inferred
    from agent.inference.options import Options
    from agent.rest.events import Events
    from agent.runtimes.classifier import Classifier
    from agent.status import VersionState


NO_COLLECTION = CollectionFolder(Path("/nowhere/collection"))
OPEN = AccessRules(tokens=None, is_local=True)


def identity(version: int, name: str = "birds") -> ModelIdentity:
    return ModelIdentity(name, version, f"{version:02d}" * 32)


def version(number: int, state: VersionState = "admitted", reason: str | None = None) -> VersionStatus:
    return VersionStatus(number, f"{number:02d}" * 32, state, f"birds-{number}.tflite", 1_800_000_000 * 10**9, reason)


def birds(**changes: object) -> ModelStatus:
    """Version 2 serves; version 1 is admitted."""
    status = ModelStatus(
        "birds",
        serving=identity(2),
        since_ns=1_800_000_000 * 10**9,
        versions=(version(2, "serving"), version(1)),
    )
    return dataclasses.replace(status, **changes)  # type: ignore[arg-type]  # fields by name


def served(content: bytes, version: int, *, name: str = "digits", workers: int = 1) -> ServedModel:
    """A real model, served as `version`."""
    file = read_model_file(content)
    classifiers = open_classifiers(file, file.settings, workers=workers, threads=1)
    return ServedModel(identity(version, name), LoadedModel(file, file.settings, classifiers))


class FailingClassifier(TFLiteClassifier):
    """The digits model with a runtime that fails on every image."""

    def __init__(self, error: ModelError) -> None:
        file = read_model_file(DIGITS)
        super().__init__(file, file.settings, threads=1)
        self._error = error

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        raise self._error


class BlockingClassifier(TFLiteClassifier):
    """The digits model; each image sets `arrived` and waits up to 10 s for `leave`."""

    def __init__(self, arrived: threading.Event, leave: threading.Event) -> None:
        file = read_model_file(DIGITS)
        super().__init__(file, file.settings, threads=1)
        self._arrived = arrived
        self._leave = leave

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        self._arrived.set()
        self._leave.wait(10)
        return super()._invoke(tensor)


def serving(classifiers: Sequence[Classifier], version: int = 1) -> ServedModel:
    """The digits model, served as `version`, with `classifiers`, one per worker."""
    file = read_model_file(DIGITS)
    return ServedModel(identity(version, "digits"), LoadedModel(file, file.settings, tuple(classifiers)))


class FakeModels:
    """Applies each request to the statuses, or raises `refusal`; `asked` records the requests.

    `observed` records what an engine reported, and `observing_threads` from which thread. Uploads get the canary, if
    there is one.
    """

    def __init__(self, *statuses: ModelStatus) -> None:
        self.statuses = list(statuses)
        self.served: dict[str, ServedModel] = {}
        self.canaries: dict[str, ServedModel] = {}
        self.refusal: AgentError | None = None
        self.asked: list[tuple[str | int, ...]] = []
        self.observed: list[tuple[int, Timing | ModelError]] = []
        self.observing_threads: set[threading.Thread] = set()

    def get(self, name: str | None, version: str | None = None) -> ServedModel:
        for label, models in (("stable", self.served), ("canary", self.canaries)):
            model = models.get(name or min(self.served, default=""))
            if model is not None and version in (None, label, str(model.identity.version)):
                return model
        raise ModelNotFoundError(f"Model {name} is not served." if name else "No model is served.")

    def for_upload(self, name: str | None, version: str | None = None) -> ServedModel:
        has_canary = (name or min(self.served, default="")) in self.canaries
        return self.get(name, "canary" if version is None and has_canary else version)

    def observe(self, served: ServedModel, outcome: Timing | ModelError) -> None:
        self.observed.append((served.identity.version, outcome))
        self.observing_threads.add(threading.current_thread())

    async def rollback(self, name: str) -> None:
        self._ask("rollback", name)
        self._change(name, serving=identity(1, name))

    async def pin(self, name: str, version: int) -> None:
        self._ask("pin", name, version)
        self._change(name, serving=identity(version, name), pinned=version)

    async def unpin(self, name: str) -> None:
        self._ask("unpin", name)
        self._change(name, pinned=None)

    async def promote(self, name: str) -> None:
        self._ask("promote", name)
        self._change(name, canary=None)

    def _ask(self, *what: str | int) -> None:
        self.asked.append(what)
        if self.refusal is not None:
            raise self.refusal

    def _change(self, name: str, **changes: object) -> None:
        if name not in [status.name for status in self.statuses]:
            raise ModelNotFoundError(f"Model {name} does not exist.")
        self.statuses = [
            dataclasses.replace(status, **changes) if status.name == name else status  # type: ignore[arg-type]
            for status in self.statuses
        ]


class FakeDataPlane:
    """Answers every upload with a robin, or raises `refusal`; `options` records the options of each call."""

    workers = 1

    def at_once(self, served: ServedModel, instances: int) -> list[int]:
        return [1]

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.options: list[Options] = []
        self._results = Results(device="test")

    async def classify(self, image: bytes | bytearray, options: Options, *, arrived_ns: int) -> Result:
        self.options.append(options)
        if self.refusal is not None:
            raise self.refusal
        answer = Classification(identity(2), (Category(0, "robin", 0.9),), Timing(1, 1, 1, 3))
        return self._results.record(answer, spot=Spot("upload"), captured_ns=arrived_ns)

    def choose(self, options: Options) -> ServedModel:
        raise ModelNotFoundError(f"Model {options.model} is not served.")

    async def infer(
        self,
        served: ServedModel,
        instances: Sequence[Sent],
        options: Options,
        *,
        arrived_ns: int,
        at_most: int | None = None,
    ) -> list[Inferred]:
        raise NotImplementedError


class FakeHealth:
    """Reports what the test sets."""

    def __init__(self) -> None:
        self.hangs: str | None = None
        self.not_ready: list[str] = []

    def stuck(self) -> str | None:
        return self.hangs

    def why_not_ready(self) -> list[str]:
        return self.not_ready

    def warnings(self) -> list[str]:
        return ["Model x: bad."]

    def mqtt(self) -> dict[str, Any] | None:
        return {"state": "connected", "reason": None, "queued": 0}


class FakePictures:
    """Has one picture, and no further one."""

    has_one = True

    async def after(self, number: int) -> tuple[int, bytes] | None:
        if number == 1:
            await anyio.sleep_forever()
        return 1, b"jpeg"


class FakeOverview:
    """Shows one camera, which `switch` turns on and off; `send` is the watcher, if there is one."""

    def __init__(self) -> None:
        self.is_on = True
        self.views: list[str] = []
        self.is_judged = True
        self.retaken: list[str] = []
        self.shown = FakePictures()
        self.send: Callable[[str, dict[str, Any] | None], None] | None = None

    def status(self) -> dict[str, Any]:
        return {"cameras": self.cameras()}

    def cameras(self) -> list[dict[str, Any]]:
        state = "online" if self.is_on else "disabled"
        views = {"views": [{"name": view} for view in self.views]} if self.views else {}
        return [{"name": "front", "state": state, "reason": None, "enabled": self.is_on, **views}]

    def pictures(self, spot: Spot) -> FakePictures | None:
        return self.shown if self.is_on else None

    def retake_reference(self, name: str) -> bool:
        self.retaken.append(name)
        return self.is_judged

    def switch(self, name: str, *, on: bool) -> None:
        assert name == "front"
        self.is_on = on

    def watch(self, watcher: Callable[[str, dict[str, Any] | None], None] | None) -> None:
        self.send = watcher


class FakeProfiles:
    """Has the profile `night`, and the one that was chosen is active."""

    def __init__(self) -> None:
        self.status = ProfileStatus(None, "auto", ("night",))

    def choose(self, choice: str) -> None:
        if choice not in self.status.choices:
            raise ProfileNotFoundError(f"Profile {choice} does not exist.")
        active = choice if choice in self.status.names else None
        self.status = ProfileStatus(active, choice, self.status.names)


class FakeMetrics:
    """Renders one line, and records the requests."""

    def __init__(self) -> None:
        self.http = self
        self.requests: list[tuple[str, int]] = []
        self.failures: list[str] = []
        self.now_in_flight, self.most_in_flight = 0, 0

    def render(self) -> bytes:
        return b"a_metric 1\n"

    def answered(self, route: str, code: int) -> None:
        self.requests.append((route, code))

    def auth_failed(self, reason: str) -> None:
        self.failures.append(reason)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        self.now_in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.now_in_flight)
        yield
        self.now_in_flight -= 1


def rest_app(
    models: FakeModels,
    data_plane: FakeDataPlane | None = None,
    *,
    access: AccessRules = OPEN,
    metrics: FakeMetrics | None = None,
    reach: Reach | None = None,
    overview: FakeOverview | None = None,
    events: Events | None = None,
    profiles: FakeProfiles | None = None,
    collection: CollectionFolder | None = None,
) -> ASGIApp:
    overview = overview or FakeOverview()
    return create_app(
        version="1.2.3",
        data_plane=data_plane or FakeDataPlane(),
        models=models,
        cameras=overview,
        profiles=profiles or FakeProfiles(),
        collection=collection or NO_COLLECTION,
        overview=overview,
        events=events,
        health=FakeHealth(),
        metrics=metrics or FakeMetrics(),
        limits=Limits(max_upload_bytes=1000, per_client=2),
        places=places_for_uploads(8, per_client=2),
        access=access,
        reach=reach or Reach(),
    )

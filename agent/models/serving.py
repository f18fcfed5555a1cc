"""Serving: brings the versions in memory in line with the history, one swap at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import anyio

from agent.classification import ModelIdentity
from agent.errors import ModelError, StoreError
from agent.models.loader import unexpected
from agent.models.policy import aspired
from agent.models.probation import Probation
from agent.runtimes.batch_classifier import BatchClassifier
from agent.status import Rejection, RuntimeStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.listeners import Listener
    from agent.models.history import History
    from agent.models.loader import LoadedModel, Loader
    from agent.models.policy import Rules
    from agent.models.versions import Version
    from agent.runtimes.batch_sizes import BatchSizes
    from agent.runtimes.classifier import Classifier
    from agent.runtimes.serving_signature import ServingSignature

log = logging.getLogger(__name__)

Label = Literal["stable", "canary"]

_LAST_CALL_S = 10.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Take it once per classification, so that labels, preprocessing and classifier are of the same version."""

    identity: ModelIdentity
    loaded: LoadedModel

    @property
    def labels(self) -> tuple[str, ...]:
        return self.loaded.classifiers[0].labels

    @property
    def signature(self) -> ServingSignature:
        return self.loaded.classifiers[0].signature

    @property
    def runs_on(self) -> RuntimeStatus:
        """It may change while the version serves."""
        first = self.loaded.classifiers[0]
        return RuntimeStatus(first.ran_on, first.accelerator, first.accelerator_reason)

    @property
    def smallest_side(self) -> int:
        """Pixels: a JPEG may be reduced while it is decoded as long as both sides keep this many."""
        return self.loaded.classifiers[0].smallest_side

    @property
    def batches(self) -> tuple[BatchClassifier, BatchSizes] | None:
        """What computes several instances at a time, if that pays."""
        classifier = self.loaded.classifiers[0]
        if isinstance(classifier, BatchClassifier) and classifier.batch_sizes is not None:
            return classifier, classifier.batch_sizes
        return None

    def classifier(self, worker: int) -> Classifier:
        """The classifier of one worker: only one thread at a time may use an interpreter."""
        return self.loaded.classifiers[worker]


@dataclass(frozen=True, slots=True)
class _Failure:
    """A version that did not load. `is_temporary` if its copy exists but could not be read."""

    version: Version
    rejection: Rejection
    is_temporary: bool


@dataclass(slots=True)
class InMemory:
    """One model's versions in memory.

    `probations` has those of unproven versions, by number; `since_ns` is the Unix time at which the stable version
    began to serve, `loaded_s` the monotonic time of the last load. `best` is the number of the version that the drop
    folder asks for; `gap_since_s` is set while no version serves because memory was too short for two.
    """

    versions: dict[Label, Version] = field(default_factory=dict)
    probations: dict[int, Probation] = field(default_factory=dict)
    since_ns: int | None = None
    loaded_s: float = 0.0
    best: int | None = None
    # Not permanent: the cause may be the configuration or the runtime.
    failures: dict[int, _Failure] = field(default_factory=dict)
    gap_since_s: float | None = None
    owed_to_canary: float = 0.0
    # While a version loads in a thread, the folder, an operator or a probation may decide again. With the lock, the
    # last decision takes effect.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def why_unloadable(self, version: Version) -> Rejection | None:
        """None for a file that was dropped again, which has another fingerprint and is tried again."""
        failure = self.failures.get(version.number)
        if failure is None or not failure.version.loads_as(version):
            return None
        return failure.rejection if failure.version.fingerprint == version.fingerprint else None


class Served:
    """All versions in memory. Only Serving changes it. On the loop's thread."""

    def __init__(self) -> None:
        self.models: dict[str, InMemory] = {}
        self.by_label: dict[Label, Mapping[str, ServedModel]] = {"stable": {}, "canary": {}}

    @property
    def stable(self) -> Mapping[str, ServedModel]:
        return self.by_label["stable"]

    @property
    def canaries(self) -> Mapping[str, ServedModel]:
        return self.by_label["canary"]

    def get(self, name: str, version: str | None) -> ServedModel | None:
        """`version` is a label or a number; None means stable."""
        for label, models in self.by_label.items():
            served = models.get(name)
            if served is not None and version in (None, label, str(served.identity.version)):
                return served
        return None

    def probation_of(self, served: ServedModel) -> Probation | None:
        """None for a proven version, and for one that no longer serves."""
        identity = served.identity
        if all(models.get(identity.name) is not served for models in self.by_label.values()):
            return None
        return self.models[identity.name].probations.get(identity.version)


class Serving:
    """Applies the history. Everything happens on the loop's thread, except for loading."""

    def __init__(
        self,
        *,
        served: Served,
        history: History,
        loader: Loader,
        rules: Rules,
        clock: Callable[[], float],
        listener: Listener,
        announce: Callable[[str], None],
        is_throttled: Callable[[], bool],
    ) -> None:
        """`announce` is called with the name of the model after each swap."""
        self.served = served
        self._history = history
        self._loader = loader
        self._rules = rules
        self._clock = clock
        self._listener = listener
        self._announce = announce
        self._is_throttled = is_throttled

    def for_upload(self, name: str) -> ServedModel | None:
        """The stable version, or the canary for its share of the calls, evenly spread."""
        canary = self.served.canaries.get(name)
        if canary is not None:
            model = self.served.models[name]
            model.owed_to_canary += self._rules.canary_shares.get(name, 0.0)
            if model.owed_to_canary >= 1:
                model.owed_to_canary -= 1
                return canary
        return self.served.stable.get(name)

    def why_unloadable(self, name: str, version: Version) -> Rejection | None:
        """Why that version does not load; None if it was not tried yet."""
        model = self.served.models.get(name)
        return model.why_unloadable(version) if model else None

    def bytes_to_free(self, name: str) -> int:
        """The approximate memory that the serving version would free for the next one; 0 if that is a canary."""
        model = self.served.models.get(name)
        version = model.versions.get("stable") if model else None
        return self._loader.bytes_of(version) if version and not self._rules.canary_shares.get(name) else 0

    def retry(self, name: str, number: int) -> None:
        """Lets the next reconcile() try again to load a version."""
        if model := self.served.models.get(name):
            model.failures.pop(number, None)

    def retry_unreadable(self) -> None:
        """Like retry(), for all versions whose copy could not be read."""
        for model in self.served.models.values():
            model.failures = {number: each for number, each in model.failures.items() if not each.is_temporary}

    async def reconcile(self, name: str, *, best: int | None = None) -> None:
        """Brings memory in line with the history and with `best`, the number that the drop folder asks for."""
        model = self.served.models.setdefault(name, InMemory())
        model.best = best if best is not None else model.best
        loaded_s = model.loaded_s
        async with model.turn:
            while True:
                stable, canary = self._aspired(name, model)
                if await self._bring("stable", name, stable) and await self._bring("canary", name, canary):
                    break
        if model.loaded_s != loaded_s:  # records that the load has ended
            await self._history.save()

    async def retire(self, name: str) -> None:
        """Unloads the model, and forgets all but its version numbers and withdrawn versions."""
        model = self.served.models.get(name)
        if model is not None:
            async with model.turn:
                self._swap("stable", name, None)
                self._swap("canary", name, None)
            del self.served.models[name]
        if name in list(self._history):
            self._history[name] = self._history[name].retired()

    def _aspired(self, name: str, model: InMemory) -> tuple[Version | None, Version | None]:
        history = self._history[name]
        return aspired(
            history,
            best=model.best,
            unloadable={version.number for version in history.good if model.why_unloadable(version)},
            has_canary=bool(self._rules.canary_shares.get(name)),
        )

    async def _bring(self, label: Label, name: str, version: Version | None) -> bool:
        """Whether `version` now has `label`; if it does not load, another one is aspired."""
        current = self.served.models[name].versions.get(label)
        if version is None:
            if current is not None:
                self._swap(label, name, None)
            return True
        if current is not None and current.loads_as(version):
            return True
        loaded = self._in_memory(name, version)
        if loaded is None:
            await self._make_room(label, name, version)
            loaded = await self._loaded(name, version)
        if loaded is not None:
            self._swap(label, name, version, loaded)
        return loaded is not None

    def _in_memory(self, name: str, version: Version) -> LoadedModel | None:
        """Finds it under the other label, for example when a canary is promoted."""
        for label, current in self.served.models[name].versions.items():
            if current.loads_as(version):
                return self.served.by_label[label][name].loaded
        return None

    async def _loaded(self, name: str, version: Version) -> LoadedModel | None:
        """None if it does not load. The failure is recorded, or the version forgotten if its copy is gone."""
        await self._history.begin_loading(name, version.number)
        try:
            return await asyncio.to_thread(self._loader.load, name, version)
        except StoreError as error:
            log.warning("%s", error)
            if self._loader.has_copy_of(version):
                self._note_failure(name, version, str(error), is_temporary=True)
            else:
                self._history[name] = self._history[name].without(version.number)
        except ModelError as error:
            log.warning("Model %s version %d does not load: %s", name, version.number, error, extra={"model": name})
            self._note_failure(name, version, str(error))
        except Exception as error:  # otherwise one file would end the service at every start
            log.exception(
                "Model %s version %d does not load because of an unexpected error.",
                name,
                version.number,
                extra={"model": name},
            )
            self._note_failure(name, version, unexpected(error))
        finally:
            self._history.end_loading(name)
        self._history.survived(name, version.number)
        return None

    def _note_failure(self, name: str, version: Version, reason: str, *, is_temporary: bool = False) -> None:
        rejection = Rejection(version.file, reason, time.time_ns())
        self.served.models[name].failures[version.number] = _Failure(version, rejection, is_temporary)

    async def _make_room(self, label: Label, name: str, version: Version) -> None:
        """Unloads the serving version, if the rules say so and both do not fit in memory."""
        served = self.served.by_label[label].get(name)
        if served is None or not self._rules.unloads_first or self._loader.has_room_for(version):
            return
        self.served.models[name].gap_since_s = self._clock()
        freed, loop = asyncio.Event(), asyncio.get_running_loop()
        finalizer = weakref.finalize(served.loaded, loop.call_soon_threadsafe, freed.set)
        finalizer.atexit = False
        self._swap(label, name, None)
        del served  # our own reference would keep it alive, and the wait would never end
        with anyio.move_on_after(_LAST_CALL_S):
            await freed.wait()

    def _swap(self, label: Label, name: str, version: Version | None, loaded: LoadedModel | None = None) -> None:
        """Swaps in one assignment: a caller gets the old version or the new one. Then updates everything else."""
        model = self.served.models[name]
        others = {other: served for other, served in self.served.by_label[label].items() if other != name}
        gone = model.versions.pop(label, None)
        if gone is not None and gone.number not in {each.number for each in model.versions.values()}:
            self._history.survived(name, gone.number)
        if version is None or loaded is None:
            self.served.by_label[label] = others
        else:
            identity = ModelIdentity(name, version.number, version.sha256)
            self.served.by_label[label] = {**others, name: ServedModel(identity, loaded)}
            model.versions[label] = version
            self._begin(label, name, version)
        numbers = {each.number for each in model.versions.values()}
        model.probations = {number: each for number, each in model.probations.items() if number in numbers}
        self._announce(name)

    def _begin(self, label: Label, name: str, version: Version) -> None:
        """Updates the state of a model after a version began to serve."""
        model, history = self.served.models[name], self._history[name]
        model.loaded_s = self._clock()
        if not version.proven and version.number not in model.probations:
            model.probations[version.number] = Probation(
                trial_ms=version.cpu_ms, clock=self._clock, is_throttled=self._is_throttled
            )
        if model.gap_since_s is not None:
            self._listener.swap_gap(name, self._clock() - model.gap_since_s)
            model.gap_since_s = None
        if label == "stable":
            model.since_ns = time.time_ns()
            if history.pinned is None:  # a version that is pinned was not promoted
                self._history[name] = dataclasses.replace(history, stable=version.number)
        role = "serves" if label == "stable" else "gets a share of the uploads"
        log.info(
            "Model %s version %d %s (%s...).", name, version.number, role, version.sha256[:12], extra={"model": name}
        )

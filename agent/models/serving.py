"""Serving: which version of each model answers, the swap to another one, and the way back."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

from agent.classification import ModelIdentity
from agent.errors import ModelError, StoreError, VersionError
from agent.host.memory import free_bytes
from agent.models.policy import aspired
from agent.models.probation import Cause, Failed, Probation
from agent.status import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from agent.classification import Timing
    from agent.model_file.metadata import Tensor
    from agent.models.history import History
    from agent.models.loader import LoadedModel, Loader
    from agent.models.store import Store
    from agent.models.versions import Version
    from agent.runtimes.classifier import Classifier

log = logging.getLogger(__name__)

Label = Literal["stable", "canary"]
RollbackCause: TypeAlias = Literal["crash", "operator"] | Cause

_SURVIVED_S = 60.0
_LAST_CALL_S = 10.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Whoever classifies takes this once and keeps labels, preprocessing and version together to the end."""

    identity: ModelIdentity
    loaded: LoadedModel

    @property
    def labels(self) -> tuple[str, ...]:
        return self.loaded.classifiers[0].labels

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.loaded.file.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self.loaded.file.outputs

    @property
    def longest_side(self) -> int:
        """Pixels; an image whose shorter side is at least this loses nothing by the resize."""
        return self.loaded.classifiers[0].longest_side

    def classifier(self, worker: int) -> Classifier:
        """That of the worker with this number: an interpreter takes one thread at a time."""
        return self.loaded.classifiers[worker]


@dataclass(slots=True)
class _Model:
    """One model's. `best` is the number of the version that the drop folder asks for, None where it asks for none."""

    # A load takes its time in a thread, and the folder, a person and a probation may each decide meanwhile: under
    # the lock the last decision is the one that comes to serve.
    aligning: asyncio.Lock = field(default_factory=asyncio.Lock)
    best: int | None = None
    versions: dict[Label, Version] = field(default_factory=dict)
    probations: dict[int, Probation] = field(default_factory=dict)
    # What does not load, by number. Not for good: the configuration may be at fault, or the runtime.
    unloadable: dict[int, tuple[Version, Rejection]] = field(default_factory=dict)
    unreadable: set[int] = field(default_factory=set)  # of those, the ones that the disk did not give
    loaded_s: float = 0.0
    gap_since_s: float | None = None
    since_ns: int | None = None
    owed_to_canary: float = 0.0

    def why_unloadable(self, version: Version) -> Rejection | None:
        failed, rejection = self.unloadable.get(version.number, (None, None))
        return rejection if failed is not None and _same(failed, version) else None


class Serving:
    """Everything on the loop's thread, but loading. A decision changes the history; align() makes it real."""

    def __init__(
        self,
        *,
        history: History,
        store: Store,
        loader: Loader,
        on_change: Callable[[str], None],
        on_rollback: Callable[[str, RollbackCause], None],
        on_gap: Callable[[str, float], None],
        canary_shares: Mapping[str, float] | None = None,
        unloads_first: bool = False,
    ) -> None:
        """`on_change` gets the name of a model of which something else serves, or that is off probation.

        `on_gap` gets the seconds without a version where memory was too short to load beside (`unloads_first`).
        """
        self._history = history
        self._store = store
        self._loader = loader
        self._on_change = on_change
        self._on_rollback = on_rollback
        self._on_gap = on_gap
        self._canary_shares = canary_shares or {}
        self._unloads_first = unloads_first
        self._models: dict[str, _Model] = {}
        self._served: dict[Label, dict[str, ServedModel]] = {"stable": {}, "canary": {}}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def stable(self) -> Mapping[str, ServedModel]:
        return self._served["stable"]

    @property
    def canaries(self) -> Mapping[str, ServedModel]:
        return self._served["canary"]

    def get(self, name: str, version: str | None) -> ServedModel | None:
        """`version` is a label or a number; None means stable."""
        for label in ("stable", "canary"):
            served = self._served[label].get(name)
            if served is not None and version in (None, label, str(served.identity.version)):
                return served
        return None

    def for_upload(self, name: str) -> ServedModel | None:
        """The stable version, or the canary as often as its share says, evenly."""
        model, canary = self._models.get(name), self.canaries.get(name)
        if model is not None and canary is not None:
            model.owed_to_canary += self._canary_shares.get(name, 0.0)
            if model.owed_to_canary >= 1:
                model.owed_to_canary -= 1
                return canary
        return self.stable.get(name)

    def is_on_probation(self, name: str) -> bool:
        model, served = self._models.get(name), self.stable.get(name)
        return model is not None and served is not None and served.identity.version in model.probations

    def since_ns(self, name: str) -> int | None:
        model = self._models.get(name)
        return model.since_ns if model else None

    def why_unloadable(self, name: str, version: Version) -> Rejection | None:
        """Why that version does not load, until the next start or until it is pinned."""
        model = self._models.get(name)
        return model.why_unloadable(version) if model else None

    def retry_loading(self, name: str, number: int) -> None:
        """After the same file was dropped again."""
        if model := self._models.get(name):
            model.unloadable.pop(number, None)

    def bytes_to_free(self, name: str) -> int:
        """About what the serving version would give back to the next one: nothing where that is a canary beside it."""
        model = self._models.get(name)
        version = model.versions.get("stable") if model else None
        return version.bytes_each * self._loader.workers if version and not self._canary_shares.get(name) else 0

    def observe(self, served: ServedModel, outcome: Timing | ModelError) -> None:
        """Takes what an inference came to; on probation it may be the one too many."""
        identity = served.identity
        label = next((label for label in self._served if self._served[label].get(identity.name) is served), None)
        if label is None:
            return  # the last call of a version that is gone
        model = self._models[identity.name]
        probation = model.probations.get(identity.version)
        if probation is None:
            return
        failed = probation.observe(outcome)
        if failed or probation.is_over:
            self._conclude(identity, failed or probation.end())

    async def restore(self) -> None:
        """At the start: withdraws what ended the last run, and loads what served."""
        for name, number, reason in self._history.blame_last_run():
            self._withdraw(name, number, reason, "crash")
        for name in self._history:
            if self._history[name].good:
                await self.align(name)
        await self._history.save()

    async def align(self, name: str, *, best: int | None = None) -> None:
        """Brings what is in memory in line with the history and with `best`, which the drop folder asks for."""
        model = self._models.setdefault(name, _Model())
        model.best = best if best is not None else model.best
        loaded_s = model.loaded_s
        async with model.aligning:
            while True:
                stable, canary = self._aspired(name, model)
                if await self._bring(name, model, "stable", stable) and await self._bring(
                    name, model, "canary", canary
                ):
                    break
        if model.loaded_s != loaded_s:  # and so nothing is being loaded any more
            await self._history.save()

    async def retire(self, name: str) -> None:
        """Forgets all but the numbers that were given."""
        model = self._models.get(name)
        if model is not None:
            async with model.aligning:
                self._put("stable", name, None)
                self._put("canary", name, None)
            del self._models[name]
        if name in list(self._history):
            self._history[name] = self._history[name].retired()

    async def rollback(self, name: str) -> None:
        """Withdraws the canary, or else what serves. Raises VersionError."""
        history = self._history[name]
        doomed = self.canaries.get(name) or self.stable.get(name)
        if history.pinned is not None:
            raise VersionError(f"Model {name} is pinned to version {history.pinned}. Unpin it, or pin another version.")
        others = doomed and [
            version
            for version in history.good
            if version.number != doomed.identity.version and self._store.has(version.sha256)
        ]
        if doomed is None or not others:
            raise VersionError(
                f"Model {name} has no other good version in the store to go back to. Drop one, or pin one that "
                f"edge-agent models show {name} lists."
            )
        number = doomed.identity.version
        reason = (
            f"Version {number} was rolled back by hand. Drop another one, or take it again: "
            f"edge-agent models pin {name} {number}."
        )
        self._withdraw(name, number, reason, "operator")
        await self._decided(name)

    async def pin(self, name: str, number: int) -> None:
        """Raises VersionError where there is no such version, or where it does not load."""
        history = self._history[name]
        version = history.find(number)
        if version is None or not (self._store.has(version.sha256) or version.number == history.stable):
            known = ", ".join(str(each.number) for each in history.versions if each.is_kept) or "none"
            raise VersionError(f"Model {name} has no version {number} in the store. There are: {known}.")
        before = history.pinned
        if version.withdrawn:
            history = history.changed(number, withdrawn=None, proven=False, starts=0)
        self._history[name] = dataclasses.replace(history, pinned=number)
        log.info("Model %s is pinned to version %d by hand.", name, number, extra={"model": name})
        self._models.setdefault(name, _Model()).unloadable.pop(number, None)
        await self._decided(name)
        served = self.stable.get(name)
        if served is None or served.identity.version != number:
            unloadable = self.why_unloadable(name, version)
            reason = unloadable.reason if unloadable else "Its copy in the store is damaged. Drop it again."
            history = self._history[name].changed(number, withdrawn=version.withdrawn, proven=version.proven)
            self._history[name] = dataclasses.replace(history, pinned=before)
            await self._decided(name)
            raise VersionError(f"Version {number} of model {name} cannot serve: {reason}")

    async def unpin(self, name: str) -> None:
        self._history[name] = dataclasses.replace(self._history[name], pinned=None)
        log.info("Model %s is unpinned by hand.", name, extra={"model": name})
        await self._decided(name)

    async def promote(self, name: str) -> None:
        """The canary becomes what serves. Raises VersionError where there is none."""
        canary = self.canaries.get(name)
        if canary is None:
            raise VersionError(f"Model {name} has no canary to promote. models.canary gives a new version a share.")
        self._history[name] = dataclasses.replace(self._history[name], stable=canary.identity.version)
        log.info("Model %s version %d is promoted by hand.", name, canary.identity.version, extra={"model": name})
        await self._decided(name)

    def look_again(self) -> None:
        """To be called now and then: time ends probations, proves starts, and mends disks, without any image."""
        now_s = time.monotonic()
        for name, model in self._models.items():
            while model.unreadable:  # the disk may give them by now
                model.unloadable.pop(model.unreadable.pop(), None)
            for version in list(model.versions.values()):
                probation = model.probations.get(version.number)
                if probation is not None and probation.is_over:
                    self._conclude(ModelIdentity(name, version.number, version.sha256), probation.end())
                current = self._history[name].find(version.number)
                if current is not None and current.starts and now_s - model.loaded_s > _SURVIVED_S:
                    # On probation it stays the suspect of a crash, but no start of it is one of three in a row.
                    self._history.survived(name, version.number, starts=0 if current.proven else 1)

    async def close(self) -> None:
        """At a clean stop, for which nobody is to blame."""
        for task in self._tasks:
            task.cancel()
        self._history.end_well()
        await self._history.save()

    def _aspired(self, name: str, model: _Model) -> tuple[Version | None, Version | None]:
        history = self._history[name]
        unloadable = {version.number for version in history.good if model.why_unloadable(version)}
        return aspired(history, best=model.best, unloadable=unloadable, has_canary=bool(self._canary_shares.get(name)))

    async def _bring(self, name: str, model: _Model, label: Label, version: Version | None) -> bool:
        """Whether `version` is under `label` now; where it cannot be loaded, the history has changed."""
        current = model.versions.get(label)
        if version is None or (current is not None and _same(current, version)):
            if version is None and current is not None:
                self._put(label, name, None)
            return True
        other: Label = "canary" if label == "stable" else "stable"
        if other in model.versions and _same(model.versions[other], version):
            loaded = self._served[other][name].loaded
        else:
            await self._make_room(name, model, label, version)
            maybe = await self._loaded(name, model, version)
            if maybe is None:
                return False
            loaded = maybe
        self._put(label, name, version, loaded)
        return True

    async def _loaded(self, name: str, model: _Model, version: Version) -> LoadedModel | None:
        """None where it cannot be: then it is noted as such, or forgotten because its copy is gone."""
        await self._history.begin_loading(name, version.number)
        try:
            return await asyncio.to_thread(self._loader.load, name, version)
        except StoreError as error:
            log.warning("%s", error)
            if self._store.has(version.sha256):
                model.unloadable[version.number] = version, Rejection(version.file, str(error), time.time_ns())
                model.unreadable.add(version.number)
            else:
                self._history[name] = self._history[name].without(version.number)
        except ModelError as error:
            log.warning("Model %s version %d does not load: %s", name, version.number, error, extra={"model": name})
            model.unloadable[version.number] = version, Rejection(version.file, str(error), time.time_ns())
        except Exception as error:  # or one file would end the service at every start
            log.exception(
                "Model %s version %d does not load, and that was not foreseen.",
                name,
                version.number,
                extra={"model": name},
            )
            model.unloadable[version.number] = version, Rejection(version.file, unforeseen(error), time.time_ns())
        finally:
            self._history.end_loading(name)
        self._history.survived(name, version.number)
        return None

    async def _make_room(self, name: str, model: _Model, label: Label, version: Version) -> None:
        """Where it must and may, lets go of what serves first."""
        served = self._served[label].get(name)
        needed = version.bytes_each * self._loader.workers
        if served is None or not self._unloads_first or needed <= free_bytes():
            return
        model.gap_since_s, freed = time.monotonic(), asyncio.Event()
        weakref.finalize(served.loaded, asyncio.get_running_loop().call_soon_threadsafe, freed.set).atexit = False
        self._put(label, name, None)
        del served  # or it would be held by the one who waits that nobody holds it
        with anyio.move_on_after(_LAST_CALL_S):
            await freed.wait()

    def _put(self, label: Label, name: str, version: Version | None, loaded: LoadedModel | None = None) -> None:
        """The swap: one assignment, and what follows from it."""
        model, others = self._models[name], {n: s for n, s in self._served[label].items() if n != name}
        gone = model.versions.pop(label, None)
        if gone is not None and all(gone.number != each.number for each in model.versions.values()):
            self._history.survived(name, gone.number)
        if version is None or loaded is None:
            self._served[label] = others
        else:
            identity = ModelIdentity(name, version.number, version.sha256)
            self._served[label] = {**others, name: ServedModel(identity, loaded)}
            model.versions[label] = version
            model.loaded_s = time.monotonic()
            if not version.proven and version.number not in model.probations:
                model.probations[version.number] = Probation(trial_ms=version.cpu_ms)
            if model.gap_since_s is not None:
                self._on_gap(name, time.monotonic() - model.gap_since_s)
                model.gap_since_s = None
            if label == "stable":
                model.since_ns = time.time_ns()
            if label == "stable" and self._history[name].pinned is None:  # what was pinned is not what was promoted
                self._history[name] = dataclasses.replace(self._history[name], stable=version.number)
            role = "serves" if label == "stable" else "takes a share of the uploads"
            log.info(
                "Model %s version %d %s (%s...).",
                name,
                version.number,
                role,
                version.sha256[:12],
                extra={"model": name},
            )
        numbers = {each.number for each in model.versions.values()}
        model.probations = {number: each for number, each in model.probations.items() if number in numbers}
        self._on_change(name)

    def _withdraw(self, name: str, number: int, reason: str, cause: RollbackCause) -> None:
        history = self._history[name].changed(number, withdrawn=reason, withdrawn_ns=time.time_ns(), starts=0)
        if history.pinned == number:
            history = dataclasses.replace(history, pinned=None)
        self._history[name] = history
        self._on_rollback(name, cause)
        log.warning("Model %s version %d is withdrawn: %s", name, number, reason, extra={"model": name})

    def _conclude(self, identity: ModelIdentity, failed: Failed | None) -> None:
        if failed is None:
            self._prove(identity.name, identity.version)
            self._start(self._history.save())
        else:
            del self._models[identity.name].probations[identity.version]
            self._start(self._fail(identity, failed))

    async def _fail(self, identity: ModelIdentity, failed: Failed) -> None:
        others = any(version.number != identity.version for version in self._history[identity.name].good)
        if failed.cause == "slow" and not others:  # a slow answer is better than none
            log.warning(
                "Model %s version %d is slow: %s.",
                identity.name,
                identity.version,
                failed.reason,
                extra={"model": identity.name},
            )
            self._prove(identity.name, identity.version)
            return
        reason = (
            f"Version {identity.version} was withdrawn while on probation: {failed.reason}. Drop a mended one, or take "
            f"it again: edge-agent models pin {identity.name} {identity.version}."
        )
        self._withdraw(identity.name, identity.version, reason, failed.cause)
        await self._decided(identity.name)

    async def _decided(self, name: str) -> None:
        await self.align(name)
        self._on_change(name)
        await self._history.save()

    def _prove(self, name: str, number: int) -> None:
        self._models[name].probations.pop(number, None)
        self._history.survived(name, number, proven=True)
        self._on_change(name)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="models-decision")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _same(one: Version, other: Version) -> bool:
    return one.number == other.number and one.is_same(other.sha256, other.sidecar)


def unforeseen(error: Exception) -> str:
    """The reason for a file that does what nobody thought of."""
    words = " ".join(f"{type(error).__name__} {error}".split())[:300].encode(errors="replace").decode()
    return f"The file cannot be loaded ({words}). Drop another one, and report this with the service's log."

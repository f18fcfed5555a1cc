"""Manager: follows the drop folder, and is the one that everybody asks about models."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from agent.errors import (
    IncompleteModelError,
    ModelError,
    ModelNotFoundError,
    ModelNotReadyError,
    NoRoomError,
    StoreError,
    VersionError,
)
from agent.models.serving import ServedModel, Serving, unforeseen
from agent.models.versions import Version
from agent.status import ModelStatus, Rejection, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.classification import Timing
    from agent.models.admission import Admission, Candidate
    from agent.models.folder import Drop, Fingerprint, ModelFolder
    from agent.models.history import History
    from agent.models.store import Store
    from agent.models.trial import TrialReport
    from agent.status import VersionState

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_ROOM_S = 60.0
_MAX_REASON = 1000  # characters
_AT_ONCE_S = 0.1  # for what a checksum or a signature will prove whole: once the burst of writes is over


@dataclass(frozen=True, slots=True)
class _Later:
    """A file cannot be judged yet: look again after `wait_s`."""

    wait_s: float


@dataclass(slots=True)
class _Model:
    """What the manager knows of one name's files; only the loop's thread touches it."""

    status: ModelStatus
    rejections: dict[Fingerprint, Rejection] = field(default_factory=dict)
    incomplete: dict[Fingerprint, str] = field(default_factory=dict)
    seen: dict[Fingerprint, float] = field(default_factory=dict)
    files: dict[str, Rejection] = field(default_factory=dict)  # those in the folder that are rejected now
    retry_s: dict[Fingerprint, float] = field(default_factory=dict)  # rejections that may be over by then
    present: frozenset[Fingerprint] = frozenset()
    gone_since_s: float | None = None
    following: asyncio.Lock = field(default_factory=asyncio.Lock)  # the folder's turn, or that of a person's pin

    def keep_only(self, drops: list[Drop]) -> None:
        """Forgets what was found out about files that are others by now."""
        self.present = frozenset(drop.fingerprint for drop in drops)
        for known in (self.rejections, self.incomplete, self.seen, self.retry_s):
            for fingerprint in known.keys() - self.present:
                del known[fingerprint]
        for fingerprint in [each for each, due_s in self.retry_s.items() if time.monotonic() >= due_s]:
            del self.retry_s[fingerprint], self.rejections[fingerprint]


class ModelManager:
    """A bad candidate changes only the status; what is served is Serving's."""

    def __init__(
        self,
        *,
        folder: ModelFolder,
        store: Store,
        history: History,
        admission: Admission,
        serving: Serving,
        retire_after_s: float,
        keep_versions: int,
        on_change: Callable[[ModelStatus], None],
        on_load: Callable[[str, Literal["admitted", "rejected"]], None],
        settle_s: float = 1.0,
        patience_s: float = 5.0,
        rescan_s: float = 5.0,
    ) -> None:
        """`on_change` gets every new status, `on_load` the name and what came of a file; both on the loop.

        The last status of a name that is forgotten holds nothing but the name. A file that is shorter than it
        says may still be growing: it is rejected after `patience_s` without a change.
        """
        self._folder = folder
        self._store = store
        self._history = history
        self._admission = admission
        self._serving = serving
        self._retire_after_s = retire_after_s
        self._keep_versions = keep_versions
        self._on_change = on_change
        self._on_load = on_load
        self._settle_s = settle_s
        self._patience_s = patience_s
        self._rescan_s = rescan_s
        self._models: dict[str, _Model] = {}
        self._look_again = asyncio.Event()
        self.has_looked = asyncio.Event()  # once run() has tried what lay in the folder
        self._folder_trouble: str | None = None
        self._trust: tuple[object, ...] = ()
        # A sweep of the store would take away the copy of a candidate that is not in the history yet.
        self._store_turn = asyncio.Lock()
        self._store_trouble: str | None = None
        self._store_trouble_now: str | None = None  # in the pass over the folder that is under way

    @property
    def served(self) -> Mapping[str, ServedModel]:
        return self._serving.stable

    @property
    def canaries(self) -> Mapping[str, ServedModel]:
        return self._serving.canaries

    @property
    def statuses(self) -> list[ModelStatus]:
        return [model.status for _, model in sorted(self._models.items())]

    @property
    def store_trouble(self) -> str | None:
        return self._store_trouble or self._history.trouble

    @property
    def troubles(self) -> list[str]:
        """Of the drop folder and of the store, while they last."""
        return [trouble for trouble in (self._folder_trouble, self.store_trouble) if trouble]

    def get(self, name: str | None, version: str | None = None) -> ServedModel:
        """What `name`, or the first name there is, serves as `version`: a label or a number, None for the stable one.

        Raises ModelNotFoundError.
        """
        served = self._serving.get(min(self.served, default="") if name is None else name, version)
        if served is None:
            raise self._missing(name, version)
        return served

    def for_upload(self, name: str | None, version: str | None = None) -> ServedModel:
        """As get(), but where no version is asked for the canary has its share."""
        served = self.get(name, version)
        return served if version is not None else self._serving.for_upload(served.identity.name) or served

    def observe(self, served: ServedModel, outcome: Timing | ModelError) -> None:
        self._serving.observe(served, outcome)

    async def start(self) -> None:
        """Serves what served before."""
        await self._serving.restore()

    async def run(self) -> None:
        """Follows the folder until cancelled."""
        watch = self._folder.watch(self._look_again)
        try:
            while True:
                wait_s = await self.reconcile()
                if self.served or wait_s > self._settle_s:  # no file was dropped this very moment and is settling
                    self.has_looked.set()
                await watch.wait(wait_s)
        finally:
            watch.close()

    async def close(self) -> None:
        """A clean stop, for which no version is to blame."""
        await self._serving.close()

    async def reconcile(self) -> float:
        """Brings what is served in line with the folder; returns the seconds after which to look again."""
        self._serving.look_again()
        try:
            drops = await asyncio.to_thread(self._folder.list)
        except OSError as error:
            self._report_folder(
                f"The models folder {self._folder.path} cannot be listed: {error.strerror}. "
                "What is served stays; put the folder back."
            )
            return min(1.0, self._rescan_s)
        self._report_folder(None)
        self._store_trouble_now = None
        if (trust := await asyncio.to_thread(self._admission.trust)) != self._trust:
            self._trust = trust
            for model in self._models.values():
                model.rejections.clear()
                model.incomplete.clear()
                model.retry_s.clear()
        waits = [self._rescan_s]
        for name in sorted(drops.keys() | self.served.keys() - self._models.keys()):
            self._model(name)
        for name, model in sorted(self._models.items()):
            if name in drops and not model.status.serving and not model.seen:
                self._expect(model, drops[name][0])
        for name, model in sorted(self._models.items()):
            async with model.following:
                rejected = len(model.rejections)
                waits.append(await self._follow(model, drops.get(name, [])))
                if len(model.rejections) > rejected:  # or a thousand bad files would fill the disk together
                    await self._sweep()
        self._report_store(self._store_trouble_now)
        await self._tidy()
        return min(waits)

    async def rollback(self, name: str) -> None:
        """Withdraws the canary, or what serves, and goes back. Raises ModelNotFoundError, VersionError."""
        self._known(name)
        await self._serving.rollback(name)
        self._look_again.set()

    async def pin(self, name: str, version: int) -> None:
        """Serves just this version until unpin(). Raises ModelNotFoundError, VersionError."""
        model = self._known(name)
        try:
            if self._history[name].find(version) is None:
                async with model.following:
                    await self._admit_for_pin(model, version)
            await self._serving.pin(name, version)
        finally:
            self._look_again.set()

    async def unpin(self, name: str) -> None:
        self._known(name)
        await self._serving.unpin(name)
        self._look_again.set()

    async def promote(self, name: str) -> None:
        self._known(name)
        await self._serving.promote(name)

    def refresh(self, name: str) -> None:
        """Serving has changed."""
        self._report_served(name)
        self._look_again.set()  # of a version that was withdrawn the file is a rejected one now

    async def _follow(self, model: _Model, drops: list[Drop]) -> float:
        """Finds the best good version among `drops` and has it served; seconds after which to look again."""
        model.keep_only(drops)
        if not drops:
            return await self._retire(model)
        model.gone_since_s = None
        model.files = {}
        wait_s, waiting = self._rescan_s, None
        for drop in drops:
            version = await self._version_of(model, drop)
            if isinstance(version, _Later):
                wait_s, waiting = min(wait_s, version.wait_s), waiting or drop
                version = None
            version = version or self._admitted_as(drop)
            if version is not None and await self._serves(model, drop, version):
                break
        else:
            await self._serving.align(model.status.name)
        rejection = max(model.files.values(), key=lambda each: each.at_ns, default=None)
        self._report(model, candidate=waiting.file if waiting else None, trying=False, rejection=rejection)
        return wait_s

    def _admitted_as(self, drop: Drop) -> Version | None:
        """The good version of a folder whose file has changed since: it is in the store, and goes on."""
        version = self._history[drop.name].find(drop.version)
        return version if version is not None and version.withdrawn is None else None

    async def _serves(self, model: _Model, drop: Drop, version: Version) -> bool:
        """Whether the folder's best version is one that loads."""
        name = model.status.name
        await self._serving.align(name, best=version.number)
        unloadable = self._serving.why_unloadable(name, version)
        if unloadable is not None:
            model.files[drop.file] = unloadable
        return unloadable is None

    async def _version_of(self, model: _Model, drop: Drop) -> Version | _Later | None:
        """The good version that `drop` is; None where it is rejected, now or before."""
        if drop.fingerprint not in model.rejections:
            version = self._history[drop.name].of_drop(drop.fingerprint)
            if version is None:
                self._expect(model, drop)
                wait_s = self._still_settling(model, drop)
                if wait_s:
                    return _Later(wait_s)
                async with self._store_turn:
                    found = await self._examined(model, drop)
                if isinstance(found, _Later):
                    return found
                version = found
            if version is not None and version.withdrawn is None:
                return version
            if version is not None:
                model.files[drop.file] = Rejection(drop.file, version.withdrawn or "", version.withdrawn_ns)
                return None
        model.files[drop.file] = model.rejections[drop.fingerprint]
        return None

    def _still_settling(self, model: _Model, drop: Drop) -> float:
        """Seconds until `drop` may be looked at; 0.0 when it may."""
        first_seen = model.seen.setdefault(drop.fingerprint, time.monotonic())
        unchanged_s = max(time.monotonic() - first_seen, min(time.time() - drop.changed_at_s, 3600))
        if drop.fingerprint in model.incomplete:
            return max(0.0, self._patience_s - unchanged_s)
        settle_s = min(_AT_ONCE_S, self._settle_s) if drop.has_proof else self._settle_s
        return max(0.0, settle_s - unchanged_s)

    async def _examined(self, model: _Model, drop: Drop) -> Version | _Later | None:
        """As _version_of(), for a file that is not known yet and has settled."""
        if drop.fingerprint in model.incomplete:
            return await self._given_up(model, drop)
        self._report(model, trying=True)
        candidate = None
        try:
            candidate = await _in_thread(lambda: self._admission.take(drop, self._history[drop.name]))
            if candidate is None:
                return _Later(self._settle_s)
            return await self._tried(candidate)
        except StoreError as error:
            self._store_trouble_now = str(error)
            return _Later(self._rescan_s)
        except IncompleteModelError as error:
            if candidate is None or not candidate.proven_whole:
                model.incomplete[drop.fingerprint] = str(error)
                if wait_s := self._still_settling(model, drop):
                    return _Later(wait_s)
            self._reject(model, drop, str(error))
        except ModelError as error:
            self._reject(model, drop, str(error))
            if isinstance(error, NoRoomError):
                model.retry_s[drop.fingerprint] = time.monotonic() + _NO_ROOM_S
        return None

    async def _given_up(self, model: _Model, drop: Drop) -> _Later | None:
        """The patience with a file that is cut off is at its end, unless more of it came this very moment."""
        if await asyncio.to_thread(drop.has_changed):
            return _Later(_AT_ONCE_S)
        self._reject(model, drop, model.incomplete[drop.fingerprint])
        return None

    async def _tried(self, candidate: Candidate) -> Version:
        """The version that the candidate was before, or the new one that it becomes by its trial."""
        drop = candidate.drop
        history = self._history[drop.name]
        known = history.recognised(candidate.sha256, candidate.sidecar, drop.version)
        if known is not None:
            key_id = candidate.signed.key_id if candidate.signed else known.key_id
            again = dataclasses.replace(
                known, fingerprint=drop.fingerprint, file=drop.file, key_id=key_id, is_kept=True
            )
            self._history[drop.name] = history.with_version(again).signed_as(candidate.signed)
            self._serving.retry_loading(drop.name, known.number)
            return again
        serving_bytes = self._serving.bytes_to_free(drop.name)
        report = await _in_thread(lambda: self._admission.try_out(candidate, serving_bytes=serving_bytes))
        self._on_load(drop.name, "admitted")
        return self._admitted(candidate, report)

    def _admitted(self, candidate: Candidate, report: TrialReport) -> Version:
        drop = candidate.drop
        history = self._history[drop.name]
        version = Version(
            number=drop.version if drop.version is not None else history.given + 1,
            sha256=candidate.sha256,
            sidecar=candidate.sidecar,
            file=drop.file,
            fingerprint=drop.fingerprint,
            admitted_ns=time.time_ns(),
            bytes_each=report.bytes_each,
            cpu_ms=report.cpu_ms,
            key_id=candidate.signed.key_id if candidate.signed else None,
        )
        self._history[drop.name] = history.with_version(version).signed_as(candidate.signed)
        log.info(
            "Model file %s is admitted as version %d: %.2f ms an image, %.1f MB a worker in its trial.",
            drop.file,
            version.number,
            report.invoke_ms,
            report.bytes_each / 1e6,
            extra={"model": drop.name},
        )
        return version

    def _reject(self, model: _Model, drop: Drop, reason: str) -> None:
        """What a reason quotes, somebody else has written: it must not fill a log or steer a terminal."""
        reason = "".join(letter if letter.isprintable() else " " for letter in reason[:_MAX_REASON])
        self._on_load(drop.name, "rejected")
        model.rejections[drop.fingerprint] = Rejection(drop.file, reason, time.time_ns())
        log.warning("Model file %s is rejected: %s", drop.file, reason, extra={"model": drop.name})

    async def _admit_for_pin(self, model: _Model, version: int) -> None:
        """A lower version of TensorFlow Serving's layout was not looked at, as a higher one serves."""
        try:
            listed = await asyncio.to_thread(self._folder.list)
        except OSError as error:
            raise VersionError(
                f"{self._folder.path} cannot be listed: {error.strerror}. Put the folder back."
            ) from None
        for drop in listed.get(model.status.name, []):
            if drop.version == version:
                found = await self._version_of(model, drop)
                self._report(model, candidate=None, trying=False)
                if isinstance(found, _Later):
                    raise VersionError(f"Version {version} is still being copied. Try again in a second.")
                if found is None:
                    raise VersionError(f"Version {version} cannot serve: {model.files[drop.file].reason}")

    async def _retire(self, model: _Model) -> float:
        """A file that is gone may be on its way back: rm, then cp, has no gap."""
        name = model.status.name
        if name not in self.served:
            await self._forget(model)
            return self._rescan_s
        now_s = time.monotonic()
        if model.gone_since_s is None:
            model.gone_since_s = now_s
        model.files = {}
        self._report(model, rejection=None, candidate=None, trying=False)
        left_s = model.gone_since_s + self._retire_after_s - now_s
        if left_s > 0:
            return left_s
        await self._forget(model)
        log.info("Model %s is retired: its file is gone.", name, extra={"model": name})
        return self._rescan_s

    async def _forget(self, model: _Model) -> None:
        """Leaves nothing of the name but the count of its versions."""
        name = model.status.name
        del self._models[name]
        await self._serving.retire(name)
        self._on_change(ModelStatus(name))

    async def _tidy(self) -> None:
        """What the folder, the history and the store hold follows from what is known now."""
        reasons = {
            self._folder.path / file: rejection.reason
            for model in self._models.values()
            for file, rejection in model.files.items()
        }
        for name in self._history:
            model = self._models.get(name)
            present = model.present if model else frozenset()
            self._history[name] = self._history[name].trimmed(self._keep_versions, present)
            self._report_served(name)
        await self._history.save()
        await asyncio.to_thread(self._folder.write_notes, reasons)
        await self._sweep()

    def _report_served(self, name: str) -> None:
        if name in self._models or name in self.served:
            self._report(self._model(name))

    async def _sweep(self) -> None:
        """Not while the history on the disk is an older one: what that one names is still wanted."""
        if self._history.trouble is None:
            async with self._store_turn:
                await asyncio.to_thread(self._store.keep_only, self._history.copies)

    def _known(self, name: str) -> _Model:
        if name not in self._models:
            raise self._missing(name, None)
        return self._models[name]

    def _model(self, name: str) -> _Model:
        return self._models.setdefault(name, _Model(ModelStatus(name)))

    def _expect(self, model: _Model, drop: Drop) -> None:
        if model.status.candidate != drop.file:
            self._report(model, candidate=drop.file)

    def _report(self, model: _Model, **changes: object) -> None:
        name = model.status.name
        history, served, canary = self._history[name], self.served.get(name), self.canaries.get(name)
        status = dataclasses.replace(
            model.status,
            serving=served.identity if served else None,
            since_ns=self._serving.since_ns(name) if served else None,
            probation=self._serving.is_on_probation(name),
            pinned=history.pinned,
            canary=canary.identity if canary else None,
            versions=tuple(self._version_status(name, version) for version in reversed(history.versions)),
            **changes,  # type: ignore[arg-type]  # fields by name
        )
        if status != model.status:
            model.status = status
            self._on_change(status)

    def _version_status(self, name: str, version: Version) -> VersionStatus:
        served, canary = self.served.get(name), self.canaries.get(name)
        state: VersionState = "rejected" if version.withdrawn else "admitted"
        if served is not None and served.identity.version == version.number:
            state = "serving"
        elif canary is not None and canary.identity.version == version.number:
            state = "canary"
        return VersionStatus(
            version.number, version.sha256, state, version.file, version.admitted_ns, version.withdrawn
        )

    def _report_folder(self, trouble: str | None) -> None:
        if trouble != self._folder_trouble:
            self._folder_trouble = trouble
            if trouble:
                log.error("%s", trouble)
            else:
                log.info("The models folder %s can be listed again.", self._folder.path)

    def _report_store(self, trouble: str | None) -> None:
        if trouble != self._store_trouble:
            self._store_trouble = trouble
            if trouble:
                log.error("%s", trouble)

    def _missing(self, name: str | None, version: str | None) -> ModelNotFoundError:
        is_known = name in self._models and name not in self.served
        return (ModelNotReadyError if is_known else ModelNotFoundError)(self._why_missing(name, version))

    def _why_missing(self, name: str | None, version: str | None) -> str:
        if name is None:
            candidates = (status.name for status in self.statuses if status.candidate)
            name = min(self.served, default=None) or next(candidates, None)
        if name is None:
            return f"No model is served. Drop a .tflite file into {self._folder.path}."
        known = ", ".join(sorted(self.served)) or "none"
        if version is not None and name in self.served:
            number = self.served[name].identity.version
            return f"Model {name} does not serve {version} now; its stable version is {number}."
        model = self._models.get(name)
        if model is not None and model.status.candidate is not None:
            return f"Model {name} is being loaded. Try again in a second."
        if model is not None and model.status.rejection is not None:
            return f"Model {name} is not served: {model.status.rejection.reason} Served: {known}."
        return f"Model {name} is not served. Drop {name}.tflite into {self._folder.path}. Served: {known}."


async def _in_thread(work: Callable[[], T]) -> T:
    """Turns what nobody thought of into a rejection, or one dropped file would end the service at every start."""
    try:
        return await asyncio.to_thread(work)
    except (ModelError, StoreError):
        raise
    except Exception as error:
        log.exception("A model file cannot be admitted for a reason that was not foreseen.")
        raise ModelError(unforeseen(error)) from error

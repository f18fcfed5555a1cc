"""Manager: which version of each model is served, and the swap to the next."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agent.classification import ModelIdentity
from agent.errors import ModelError, ModelNotFoundError
from agent.models.folder import Drop, Fingerprint, FolderWatch, ModelFolder
from agent.status import ModelStatus, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.models.admission import Admission, AdmittedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Whoever classifies takes this once and keeps labels, preprocessing and version together to the end."""

    identity: ModelIdentity
    admitted: AdmittedModel


@dataclass(slots=True)
class _Model:
    """What the manager remembers of one name; only the loop's thread touches it."""

    status: ModelStatus
    serving_drop: Drop | None = None
    rejected: set[Fingerprint] = field(default_factory=set)
    seen: dict[Fingerprint, float] = field(default_factory=dict)
    gone_since_s: float | None = None


class ModelManager:
    """Follows the folder. The swap is one assignment on the event loop; a bad candidate changes only status."""

    def __init__(
        self,
        *,
        folder: ModelFolder,
        admission: Admission,
        retire_after_s: float,
        on_change: Callable[[ModelStatus], None],
        on_load: Callable[[str, Literal["admitted", "rejected"]], None],
        settle_s: float = 0.3,
        rescan_s: float = 5.0,
    ) -> None:
        """`on_change` gets every new status, `on_load` the name and what came of it; both on the loop.

        The last status of a name that is forgotten holds nothing but the name.
        """
        self._folder = folder
        self._admission = admission
        self._retire_after_s = retire_after_s
        self._on_change = on_change
        self._on_load = on_load
        self._settle_s = settle_s
        self._rescan_s = rescan_s
        self._served: dict[str, ServedModel] = {}
        self._models: dict[str, _Model] = {}
        self._versions_given: dict[str, int] = {}  # outlasts a name that is forgotten
        self.folder_trouble: str | None = None

    @property
    def served(self) -> Mapping[str, ServedModel]:
        return self._served

    @property
    def statuses(self) -> list[ModelStatus]:
        return [model.status for _, model in sorted(self._models.items())]

    def get(self, name: str | None) -> ServedModel:
        """The served version of `name`, or of the first name there is; raises ModelNotFoundError."""
        served = self._served.get(min(self._served, default="")) if name is None else self._served.get(name)
        if served is None:
            raise ModelNotFoundError(self._why_missing(name))
        return served

    async def run(self) -> None:
        """Follows the folder until cancelled."""
        watch = FolderWatch(self._folder.path)
        try:
            while True:
                await watch.wait(await self.reconcile())
        finally:
            watch.close()

    async def reconcile(self) -> float:
        """Brings what is served in line with the folder; returns the seconds after which to look again."""
        try:
            drops = await asyncio.to_thread(self._folder.list)
        except OSError as error:
            self._report_folder(
                f"The models folder {self._folder.path} cannot be listed: {error.strerror}. "
                "What is served stays; put the folder back."
            )
            return min(1.0, self._rescan_s)
        self._report_folder(None)
        waits = [self._rescan_s]
        for name in sorted(drops.keys() - self._models.keys()):
            self._models[name] = _Model(ModelStatus(name))
            self._expect(self._models[name], drops[name][0])
        for name, model in sorted(self._models.items()):
            waits.append(await self._follow(model, drops.get(name, [])))
        return min(waits)

    async def _follow(self, model: _Model, drops: list[Drop]) -> float:
        model.rejected &= {drop.fingerprint for drop in drops}
        if not drops:
            return self._retire(model)
        model.gone_since_s = None
        for drop in drops:
            if model.serving_drop is not None and drop.fingerprint == model.serving_drop.fingerprint:
                break
            if drop.fingerprint in model.rejected:
                continue
            self._expect(model, drop)
            if wait := self._settling(model, drop):
                return wait
            if await self._try(model, drop):
                break
            if drop.fingerprint not in model.rejected:
                return self._settle_s
        if not model.rejected and model.status.rejection is not None:
            self._report(model, rejection=None)
        if model.status.candidate is not None:  # it went before it settled
            self._report(model, candidate=None)
        model.seen.clear()
        return self._rescan_s

    def _settling(self, model: _Model, drop: Drop) -> float:
        """Seconds until `drop` has been unchanged for long enough; 0 when it has."""
        first_seen = model.seen.setdefault(drop.fingerprint, time.monotonic())
        unchanged_s = max(time.monotonic() - first_seen, min(time.time() - drop.changed_at_s, 3600))
        return max(0.0, self._settle_s - unchanged_s)

    async def _try(self, model: _Model, drop: Drop) -> bool:
        """Whether `drop` serves now. Where it changed meanwhile, it stays the candidate."""
        admitted = await asyncio.to_thread(self._admit, drop)
        if admitted is None:
            return False
        if isinstance(admitted, ModelError):
            self._reject(model, drop, str(admitted))
            return False
        self._on_load(drop.name, "admitted")
        model.serving_drop = drop
        if self._serves_already(drop, admitted):
            self._report(model, candidate=None)
        else:
            self._serve(model, drop, admitted)
        return True

    def _admit(self, drop: Drop) -> AdmittedModel | ModelError | None:
        """None when the file changed meanwhile: what was read may be half of this one and half of the next."""
        try:
            admitted: AdmittedModel | ModelError = self._admission.admit(drop.path, name=drop.name)
        except ModelError as error:
            admitted = error
        except Exception as error:  # or one dropped file would end the service at every start
            log.exception("Model file %s cannot be admitted for a reason that was not foreseen.", drop.file)
            admitted = ModelError(_unforeseen(error))
        return None if drop.has_changed() else admitted

    def _serves_already(self, drop: Drop, admitted: AdmittedModel) -> bool:
        current = self._served.get(drop.name)
        return (
            current is not None
            and _same(current.admitted, admitted)
            and drop.version in (None, current.identity.version)
        )

    def _serve(self, model: _Model, drop: Drop, admitted: AdmittedModel) -> None:
        version = drop.version if drop.version is not None else self._versions_given.get(drop.name, 0) + 1
        self._versions_given[drop.name] = version
        identity = ModelIdentity(drop.name, version, admitted.sha256)
        self._served = {**self._served, drop.name: ServedModel(identity, admitted)}
        self._report(model, serving=identity, since_ns=time.time_ns(), candidate=None)
        log.info("Model %s version %d serves (%s, %s...).", drop.name, version, drop.file, identity.sha256[:12])

    def _reject(self, model: _Model, drop: Drop, reason: str) -> None:
        self._on_load(drop.name, "rejected")
        model.rejected.add(drop.fingerprint)
        self._report(model, candidate=None, rejection=Rejection(drop.file, reason, time.time_ns()))
        log.warning("Model file %s is rejected: %s", drop.file, reason)

    def _retire(self, model: _Model) -> float:
        """A file that is gone may be on its way back: rm, then cp, has no gap."""
        if model.serving_drop is None:
            self._forget(model)
            return self._rescan_s
        now_s = time.monotonic()
        if model.gone_since_s is None:
            model.gone_since_s = now_s
        model.seen.clear()
        if model.status.rejection is not None or model.status.candidate is not None:
            self._report(model, rejection=None, candidate=None)
        left_s = model.gone_since_s + self._retire_after_s - now_s
        if left_s > 0:
            return left_s
        self._forget(model)
        log.info("Model %s is retired: its file is gone.", model.status.name)
        return self._rescan_s

    def _forget(self, model: _Model) -> None:
        """Leaves nothing of the name but the count of its versions."""
        name = model.status.name
        self._served = {other: served for other, served in self._served.items() if other != name}
        del self._models[name]
        self._on_change(ModelStatus(name))

    def _expect(self, model: _Model, drop: Drop) -> None:
        if model.status.candidate != drop.file:
            self._report(model, candidate=drop.file)

    def _report(self, model: _Model, **changes: object) -> None:
        model.status = dataclasses.replace(model.status, **changes)  # type: ignore[arg-type]  # fields by name
        self._on_change(model.status)

    def _report_folder(self, trouble: str | None) -> None:
        if trouble != self.folder_trouble:
            self.folder_trouble = trouble
            if trouble:
                log.error("%s", trouble)
            else:
                log.info("The models folder %s can be listed again.", self._folder.path)

    def _why_missing(self, name: str | None) -> str:
        if name is None:
            name = next((status.name for status in self.statuses if status.candidate), None)
        if name is None:
            return f"No model is served. Drop a .tflite file into {self._folder.path}."
        known = ", ".join(sorted(self._served)) or "none"
        model = self._models.get(name)
        if model is not None and model.status.candidate is not None:
            return f"Model {name} is being loaded. Try again in a second."
        if model is not None and model.status.rejection is not None:
            return f"Model {name} is not served: {model.status.rejection.reason} Served: {known}."
        return f"Model {name} is not served. Drop {name}.tflite into {self._folder.path}. Served: {known}."


def _unforeseen(error: Exception) -> str:
    words = " ".join(f"{type(error).__name__} {error}".split())[:300].encode(errors="replace").decode()
    return f"The file cannot be loaded ({words}). Drop another one, and report this with the service's log."


def _same(one: AdmittedModel, other: AdmittedModel) -> bool:
    return one.sha256 == other.sha256 and one.settings == other.settings

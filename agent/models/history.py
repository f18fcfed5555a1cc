"""History: which versions each model had, which one served, and what became of them, across restarts."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from agent.errors import ModelError
from agent.model_file.settings import ModelSettings  # noqa: TC001
from agent.models.folder import Fingerprint  # noqa: TC001  (pydantic reads the annotations)
from agent.models.store import write_durably

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from agent.security.minisign import Signed

log = logging.getLogger(__name__)

_FAILED_STARTS = 3
_MAX_REJECTED = 50  # of each model are remembered, so that none of them is tried again


@dataclass(frozen=True, slots=True)
class Version:
    """A candidate that was admitted.

    `sidecar` is what stood beside the file, `fingerprint` the file in the drop folder as it was then; `bytes_each`
    and `processor_ms` are what its trial took for one interpreter and one invoke. `proven` once it has passed its
    probation; `starts` counts the starts of the agent that loaded it and may have ended because of it;
    `withdrawn` is why it may not serve any more. `key_id` names the key that signed it, None where nobody looked;
    `is_kept` says whether the store has its copy still.
    """

    number: int
    sha256: str
    sidecar: ModelSettings
    file: str
    fingerprint: Fingerprint
    admitted_ns: int
    bytes_each: int
    processor_ms: float
    proven: bool = False
    starts: int = 0
    withdrawn: str | None = None
    withdrawn_ns: int = 0
    key_id: str | None = None
    is_kept: bool = True

    def is_same(self, sha256: str, sidecar: ModelSettings) -> bool:
        """Whether those bytes with those sidecars are this version."""
        return (self.sha256, self.sidecar) == (sha256, sidecar)


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """One model's; `versions` in the order of admission.

    `given` is the highest number given so far, `signed` the highest `version=` of a signature; both outlast the
    versions. `stable` serves, `pinned` was asked for by hand.
    """

    versions: tuple[Version, ...] = ()
    given: int = 0
    signed: int | None = None
    stable: int | None = None
    pinned: int | None = None

    @property
    def good(self) -> tuple[Version, ...]:
        return tuple(version for version in self.versions if version.withdrawn is None)

    def find(self, number: int | None) -> Version | None:
        return next((version for version in self.versions if version.number == number), None)

    def of_drop(self, fingerprint: Fingerprint) -> Version | None:
        """The version that was made of the file as it lies in the drop folder."""
        return next((each for each in reversed(self.versions) if each.fingerprint == fingerprint), None)

    def recognised(self, sha256: str, sidecar: ModelSettings, number: int | None) -> Version | None:
        """The version that a candidate is once more: what serves, the newest one, or one that was withdrawn.

        An older one that comes again is a new version, unless it comes with the `number` that it had. Raises
        ModelError where another one has that number.
        """
        if number is not None:
            version = self.find(number)
            if version is not None and not version.is_same(sha256, sidecar):
                raise ModelError(
                    f"Version {number} was another file, or had other sidecars, when it was admitted. Drop this one "
                    f"under a number of its own, such as {self.given + 1}."
                )
            return version
        for version in reversed(self.versions):
            if version.is_same(sha256, sidecar):
                newest = version is self.versions[-1]
                if newest or version.withdrawn or version.number in (self.stable, self.pinned):
                    return version
        return None

    def with_version(self, version: Version) -> ModelHistory:
        """Adds it, or puts it in the place of the one with its number."""
        if self.find(version.number) is None:
            versions = (*self.versions, version)
        else:
            versions = tuple(version if each.number == version.number else each for each in self.versions)
        return dataclasses.replace(self, versions=versions, given=max(self.given, version.number))

    def changed(self, number: int, **changes: Any) -> ModelHistory:
        """With those fields of one version changed; as it is where there is no such version."""
        version = self.find(number)
        return self if version is None else self.with_version(dataclasses.replace(version, **changes))

    def signed_as(self, signed: Signed | None) -> ModelHistory:
        """Remembers the highest version that any signature stated."""
        if signed is None or signed.version is None:
            return self
        return dataclasses.replace(self, signed=max(signed.version, self.signed or 0))

    def without(self, number: int) -> ModelHistory:
        return dataclasses.replace(self, versions=tuple(each for each in self.versions if each.number != number))

    def trimmed(self, keep: int, present: Collection[Fingerprint]) -> ModelHistory:
        """Keeps the `keep` newest good versions, the newest proven one, what serves, and what must not come again.

        Copies of withdrawn versions are kept of the newest ones, and of those in the drop folder, `present`.
        """
        proven = [version for version in self.good if version.proven]
        good = {version.number for version in (*self.good[-keep:], *proven[-1:])} | {self.stable, self.pinned}
        withdrawn = [version.number for version in self.versions if version.withdrawn]
        in_folder = {version.number for version in self.versions if version.fingerprint in present}
        known, kept = good | set(withdrawn[-_MAX_REJECTED:]) | in_folder, good | set(withdrawn[-keep:]) | in_folder
        versions = (each for each in self.versions if each.number in known)
        return dataclasses.replace(
            self,
            versions=tuple(
                each if each.number in kept else dataclasses.replace(each, is_kept=False) for each in versions
            ),
        )

    def retired(self) -> ModelHistory:
        """Of a model whose file is gone: the numbers stay given, and what was withdrawn stays so."""
        withdrawn = (dataclasses.replace(each, is_kept=False) for each in self.versions if each.withdrawn)
        return ModelHistory(tuple(withdrawn), self.given, self.signed)


@dataclass(slots=True)
class _Content:
    models: dict[str, ModelHistory] = field(default_factory=dict)
    loading: dict[str, int] = field(default_factory=dict)
    boot: str = ""
    format: Literal[1] = 1


_CONTENT = TypeAdapter(_Content)


class History:
    """One JSON file, written at every change that a start must know of. Only the loop's thread touches it.

    `loading` has the version of each model that is being loaded: when the process dies of that, the next start knows.
    """

    def __init__(self, path: Path) -> None:
        """Reads `path`. What cannot be read is set aside: the drop folder has the models still."""
        self._path = path
        self._boot = _boot_id()
        # Each document is newer than the one before, and the newest must be the last that is written.
        self._writing = asyncio.Lock()
        self._saved: bytes | None = None
        self._content = _Content()
        try:
            self._content = _CONTENT.validate_json(path.read_bytes())
        except FileNotFoundError:
            pass
        except OSError as error:
            self._set_aside(f"it cannot be read: {error.strerror}")
        except ValidationError as error:
            self._set_aside(error.errors()[0]["msg"])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._content.models))

    def __getitem__(self, name: str) -> ModelHistory:
        return self._content.models.get(name, ModelHistory())

    def __setitem__(self, name: str, model: ModelHistory) -> None:
        self._content.models[name] = model

    @property
    def copies(self) -> set[str]:
        """The SHA-256 of everything that may be loaded again."""
        return {each.sha256 for model in self._content.models.values() for each in model.versions if each.is_kept}

    async def save(self) -> None:
        """Returns once it is on the disk; nothing is written where nothing has changed. Raises StoreError."""
        async with self._writing:
            document = self._document()
            if document != self._saved:
                await asyncio.to_thread(write_durably, self._path, document)
                self._saved = document

    async def begin_loading(self, name: str, number: int) -> None:
        version = self[name].find(number)
        if version is not None:
            self[name] = self[name].changed(number, starts=version.starts + 1)
        self._content.loading[name] = number
        await self.save()

    def end_loading(self, name: str) -> None:
        """The next save() makes it known; until then a crash would be this version's still."""
        self._content.loading.pop(name, None)

    def settle_starts(self) -> list[tuple[str, int, str]]:
        """At the start: who ended the run before, if anybody: name, number and the reason to withdraw it.

        Only a version that was being loaded, or that was on probation, can be the cause; a proven one that was
        loaded well is not blamed for what else may crash. A power cut shows by the boot's id, and counts as one
        of three failed starts. Of a model's suspects the newest goes first, and the last good version only by that.
        """
        same_boot, self._content.boot = self._content.boot == self._boot, self._boot
        loading, self._content.loading = self._content.loading, {}
        blamed: list[tuple[str, int, str]] = []
        for name in self:
            others = len(self[name].good) - 1
            for version in reversed(self[name].versions):
                suspect = loading.get(name) == version.number if loading else not version.proven
                if version.starts and not version.withdrawn and suspect:
                    if reason := _why_blamed(name, version, crashed=same_boot, others=others > 0):
                        blamed.append((name, version.number, reason))
                        others -= 1
                elif version.starts:
                    self.survived(name, version.number)
        return blamed

    def survived(self, name: str, number: int, **changes: Any) -> None:
        self[name] = self[name].changed(number, **{"starts": 0, **changes})

    def end_well(self) -> None:
        """At a clean stop nobody is to blame for anything."""
        self._content.loading.clear()
        for name in self:
            for version in self[name].versions:
                if version.starts:
                    self.survived(name, version.number)

    def _document(self) -> bytes:
        return _CONTENT.dump_json(self._content, indent=1)

    def _set_aside(self, fault: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns() // 10**9}")
        log.error("%s is no use (%s) and kept as %s. The versions count anew.", self._path, fault, aside.name)
        try:
            self._path.replace(aside)
        except OSError as trouble:
            log.warning("It cannot be renamed: %s.", trouble.strerror)


def _why_blamed(name: str, version: Version, *, crashed: bool, others: bool) -> str | None:
    take_back = f"If the model is not to blame, pin it: edge-agent models pin {name} {version.number}."
    if version.starts >= _FAILED_STARTS:
        return f"The agent died in {version.starts} starts in a row with this version. Drop another one. {take_back}"
    if crashed and others and not version.proven:
        return f"The agent died while this version was on probation. Drop a mended one. {take_back}"
    return None


def _boot_id() -> str:
    """Another one after each boot; empty where the system does not tell (only Linux does)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""

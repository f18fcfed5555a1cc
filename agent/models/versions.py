"""Versions: the admitted versions of one model, as immutable values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from agent.errors import ModelError
from agent.model_file.settings import ModelSettings  # noqa: TC001
from agent.models.folder import Fingerprint  # noqa: TC001  (pydantic reads the annotations)
from agent.runtimes.score_kind import SeenScores  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.security.minisign import Signed

_MAX_REJECTED = 50  # withdrawn versions remembered per model, so that they are not tried again


@dataclass(frozen=True, slots=True)
class Version:
    """A candidate that was admitted.

    `sidecar` has the settings in its sidecars, `fingerprint` identifies its file in the drop folder. `bytes_each` and
    `cpu_ms` are what its trial measured for one interpreter and one invoke. `proven`: it has passed its probation.
    `is_shared`: all workers share what needs `bytes_each`.
    `scores` is what the trial saw of them, if neither the settings nor the last operator says what they are.
    `starts` counts the agent's starts that loaded it and may have crashed because of it. `withdrawn` is why it must
    not serve any more. `key_id` names the key that signed it, None if no signature was checked. `is_kept`: the store
    still has its copy.
    """

    number: int
    sha256: str
    sidecar: ModelSettings
    file: str
    fingerprint: Fingerprint
    admitted_ns: int
    bytes_each: int
    cpu_ms: Annotated[float, Field(alias="processor_ms")]  # its name in history.json
    proven: bool = False
    starts: int = 0
    withdrawn: str | None = None
    withdrawn_ns: int = 0
    key_id: str | None = None
    is_kept: bool = True
    scores: SeenScores | None = None
    is_shared: bool = False

    def is_same(self, sha256: str, sidecar: ModelSettings) -> bool:
        """Whether this version has that content and those sidecars."""
        return (self.sha256, self.sidecar) == (sha256, sidecar)

    def loads_as(self, other: Version) -> bool:
        """Whether both are the same once they are in memory."""
        return self.number == other.number and self.is_same(other.sha256, other.sidecar)


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """The history of one model; `versions` are in the order of admission.

    `given` is the highest number assigned so far, `signed` the highest `version=` in a signature; both are kept when
    versions are removed. `stable` is the number that serves, `pinned` the number that an operator has pinned.
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
        """The version that was made from this state of a file in the drop folder."""
        return next((each for each in reversed(self.versions) if each.fingerprint == fingerprint), None)

    def recognized(self, sha256: str, sidecar: ModelSettings, number: int | None) -> Version | None:
        """The existing version that equals a candidate: the serving one, the newest one, or a withdrawn one.

        Any other old version that is dropped again becomes a new version, unless it has its former `number`. Raises
        ModelError if a different version has that number.
        """
        if number is not None:
            version = self.find(number)
            if version is not None and not version.is_same(sha256, sidecar):
                raise ModelError(
                    f"Version {number} was already admitted with another file or other sidecars. Drop this one under "
                    f"a new number, such as {self.given + 1}."
                )
            return version
        for version in reversed(self.versions):
            if version.is_same(sha256, sidecar):
                newest = version is self.versions[-1]
                if newest or version.withdrawn or version.number in (self.stable, self.pinned):
                    return version
        return None

    def with_version(self, version: Version) -> ModelHistory:
        """With the version added, or in place of the one with the same number."""
        if self.find(version.number) is None:
            versions = (*self.versions, version)
        else:
            versions = tuple(version if each.number == version.number else each for each in self.versions)
        return dataclasses.replace(self, versions=versions, given=max(self.given, version.number))

    def changed(self, number: int, **changes: Any) -> ModelHistory:
        """With these fields of one version changed; unchanged if no version has that number."""
        version = self.find(number)
        return self if version is None else self.with_version(dataclasses.replace(version, **changes))

    def signed_as(self, signed: Signed | None) -> ModelHistory:
        """With the highest version that any signature has stated."""
        if signed is None or signed.version is None:
            return self
        return dataclasses.replace(self, signed=max(signed.version, self.signed or 0))

    def withdrawn(self, number: int, reason: str, at_ns: int) -> ModelHistory:
        """With a version that must not serve any more; a pin to it ends."""
        after = self.changed(number, withdrawn=reason, withdrawn_ns=at_ns, starts=0)
        return dataclasses.replace(after, pinned=None) if after.pinned == number else after

    def pinned_to(self, number: int) -> ModelHistory:
        """With a pinned version; if it was withdrawn, it is on probation again."""
        version = self.find(number)
        is_withdrawn = version is not None and version.withdrawn is not None
        after = self.changed(number, withdrawn=None, proven=False, starts=0) if is_withdrawn else self
        return dataclasses.replace(after, pinned=number)

    def with_pin_undone(self, number: int, before: ModelHistory) -> ModelHistory:
        """With the pin and the version `number` as they were `before`; all later changes stay."""
        version = before.find(number)
        after = self if version is None else self.changed(number, withdrawn=version.withdrawn, proven=version.proven)
        return dataclasses.replace(after, pinned=before.pinned)

    def without(self, number: int) -> ModelHistory:
        return dataclasses.replace(self, versions=tuple(each for each in self.versions if each.number != number))

    def trimmed(self, keep: int, present: Collection[Fingerprint]) -> ModelHistory:
        """Keeps the `keep` newest good versions, the newest proven one, the stable, pinned and newest withdrawn ones.

        Of the withdrawn versions, only the `keep` newest and those still in the drop folder (`present`) keep a copy.
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
        """For a model whose file is gone: keeps the highest number and the withdrawn versions."""
        withdrawn = (dataclasses.replace(each, is_kept=False) for each in self.versions if each.withdrawn)
        return ModelHistory(tuple(withdrawn), self.given, self.signed)

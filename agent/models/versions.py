"""Versions: what was admitted under one model's name, as values that never change."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from agent.errors import ModelError
from agent.model_file.settings import ModelSettings  # noqa: TC001
from agent.models.folder import Fingerprint  # noqa: TC001  (pydantic reads the annotations)

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.security.minisign import Signed

_MAX_REJECTED = 50  # of each model are remembered, so that none of them is tried again


@dataclass(frozen=True, slots=True)
class Version:
    """A candidate that was admitted.

    `sidecar` is what stood beside the file, `fingerprint` the file in the drop folder as it was then; `bytes_each`
    and `cpu_ms` are what its trial took for one interpreter and one invoke. `proven` once it has passed its
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
    cpu_ms: Annotated[float, Field(alias="processor_ms")]  # its name in history.json
    proven: bool = False
    starts: int = 0
    withdrawn: str | None = None
    withdrawn_ns: int = 0
    key_id: str | None = None
    is_kept: bool = True

    def is_same(self, sha256: str, sidecar: ModelSettings) -> bool:
        """Whether those bytes with those sidecars are this version."""
        return (self.sha256, self.sidecar) == (sha256, sidecar)

    def loads_as(self, other: Version) -> bool:
        """Whether both are the same once they are in memory."""
        return self.number == other.number and self.is_same(other.sha256, other.sidecar)


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

    def withdrawn(self, number: int, reason: str, at_ns: int) -> ModelHistory:
        """With a version that may not serve any more; a pin to it ends."""
        after = self.changed(number, withdrawn=reason, withdrawn_ns=at_ns, starts=0)
        return dataclasses.replace(after, pinned=None) if after.pinned == number else after

    def pinned_to(self, number: int) -> ModelHistory:
        """With a version that a person asks for: if it was withdrawn, it is on probation again."""
        version = self.find(number)
        is_withdrawn = version is not None and version.withdrawn is not None
        after = self.changed(number, withdrawn=None, proven=False, starts=0) if is_withdrawn else self
        return dataclasses.replace(after, pinned=number)

    def with_pin_undone(self, number: int, before: ModelHistory) -> ModelHistory:
        """With the pin and the version `number` as they were `before`; what has come since stays."""
        version = before.find(number)
        after = self if version is None else self.changed(number, withdrawn=version.withdrawn, proven=version.proven)
        return dataclasses.replace(after, pinned=before.pinned)

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

"""Status: the state that each part reports, in the form that MQTT and HTTP show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agent.classification import iso_time

if TYPE_CHECKING:
    from agent.classification import ModelIdentity

CameraState = Literal["starting", "online", "lost", "frozen", "disabled", "ended"]
HealthState = Literal["ok", "covered", "blurred", "moved"]


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """`reason` says what is wrong and what to do; None unless the camera is lost or frozen."""

    state: CameraState
    reason: str | None = None

    @property
    def is_enabled(self) -> bool:
        return self.state != "disabled"


BY_CLOCK, NO_PROFILE = "auto", "none"  # what a person may choose besides the name of a profile


@dataclass(frozen=True, slots=True)
class ProfileStatus:
    """`active` is the profile in use. `chosen` is `auto` while the clock decides, else `none` or a name."""

    active: str | None
    chosen: str
    names: tuple[str, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        return BY_CLOCK, NO_PROFILE, *self.names

    @property
    def is_by_clock(self) -> bool:
        return self.chosen == BY_CLOCK

    def to_json(self) -> dict[str, Any]:
        return {"active": self.active, "chosen": self.chosen, "profiles": list(self.names)}


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """What the pictures of a live camera say about it; `reason` says what is wrong and what to do."""

    state: HealthState
    reason: str | None = None

    def to_json(self) -> dict[str, str | None]:
        return {"state": self.state, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a dropped file does not serve."""

    file: str
    reason: str
    at_ns: int

    def to_json(self) -> dict[str, str]:
        return {"file": self.file, "reason": self.reason, "at": iso_time(self.at_ns)}


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """What computes a model: `runtime` names the runtime and its hardware, `reason` says why that hardware.

    `reason` is None if there was nothing to choose.
    """

    runtime: str
    accelerator: str = "cpu"
    reason: str | None = None


VersionState = Literal["serving", "canary", "admitted", "rejected"]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version that was admitted: `admitted` may serve again, `rejected` was withdrawn for `reason`."""

    version: int
    sha256: str
    state: VersionState
    file: str
    admitted_ns: int
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "version": str(self.version),
            "sha256": self.sha256,
            "state": self.state,
            "file": self.file,
            "admitted_at": iso_time(self.admitted_ns),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """`since_ns` is when `serving` started; `candidate` names a new file; `trying` is true once its trial has begun.

    `probation` means that `serving` may still be withdrawn automatically. `pinned` is the version that was chosen
    manually, `canary` the one that gets a share of the uploads. `versions` are sorted, newest first. `runs_on` is what
    computes `serving`.
    """

    name: str
    serving: ModelIdentity | None = None
    since_ns: int | None = None
    candidate: str | None = None
    trying: bool = False
    rejection: Rejection | None = None
    probation: bool = False
    pinned: int | None = None
    canary: ModelIdentity | None = None
    versions: tuple[VersionStatus, ...] = ()
    runs_on: RuntimeStatus | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "serving": self.serving.to_json() if self.serving else None,
            "since": iso_time(self.since_ns) if self.since_ns is not None else None,
            "candidate": self.candidate,
            "trying": self.trying,
            "rejection": self.rejection.to_json() if self.rejection else None,
            "probation": self.probation,
            "pinned": None if self.pinned is None else str(self.pinned),
            "canary": self.canary.to_json() if self.canary else None,
            "runtime": self.runs_on.runtime if self.runs_on else None,
            "accelerator": self.runs_on.accelerator if self.runs_on else None,
            "accelerator_reason": self.runs_on.reason if self.runs_on else None,
            "versions": [version.to_json() for version in self.versions],
        }

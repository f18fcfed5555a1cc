"""Status: what each part reports of itself, in the shape that MQTT and HTTP show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agent.classification import iso_time

if TYPE_CHECKING:
    from agent.classification import ModelIdentity

CameraState = Literal["starting", "online", "lost", "frozen", "disabled", "ended"]


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """`reason` is a sentence that says what to do unless the camera is online, disabled or at its end."""

    state: CameraState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a dropped file does not serve."""

    file: str
    reason: str
    at_ns: int

    def to_json(self) -> dict[str, str]:
        return {"file": self.file, "reason": self.reason, "at": iso_time(self.at_ns)}


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """`candidate` names a file that is settling or being loaded; `since_ns` is when `serving` began to serve."""

    name: str
    serving: ModelIdentity | None = None
    since_ns: int | None = None
    candidate: str | None = None
    rejection: Rejection | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "serving": self.serving.to_json() if self.serving else None,
            "since": iso_time(self.since_ns) if self.since_ns is not None else None,
            "candidate": self.candidate,
            "rejection": self.rejection.to_json() if self.rejection else None,
        }

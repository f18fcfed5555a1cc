"""Event: a label that a view of a camera showed for a while; Wanted: which events a reader asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agent.classification import iso_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.classification import Spot

EventType = Literal["begin", "update", "end"]


@dataclass(frozen=True, slots=True)
class Event:
    """`type` is the newest that happened to it. `best` is the JSON form of its best Result.

    `seen_ns` is its end or, before that, the last time at which it was known to last.
    """

    id: str
    type: EventType
    spot: Spot
    label: str
    started_ns: int
    seen_ns: int
    best: Mapping[str, Any]
    has_frame: bool

    def to_json(self) -> dict[str, Any]:
        camera, view = self.spot
        return {
            "id": self.id,
            "type": self.type,
            "camera": camera,
            **({} if view is None else {"view": view}),
            "label": self.label,
            "started_at": iso_time(self.started_ns),
            "ended_at": iso_time(self.seen_ns) if self.type == "end" else None,
            "duration_s": round((self.seen_ns - self.started_ns) / 1e9, 3),
            "model": self.best["model"],
            "best": self.best,
            "frame": f"/api/events/{self.id}/frame.jpg" if self.has_frame else None,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """Events that match every given value; `from_ms` and `to_ms` limit the beginning in Unix time, the end excluded."""

    camera: str | None = None
    view: str | None = None
    label: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

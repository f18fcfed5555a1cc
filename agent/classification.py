"""Classification: the categories of one image, and the JSON form of results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Category:
    """`index` is the position in the model's outputs, `score` a probability from 0 to 1."""

    index: int
    label: str
    score: float

    def to_json(self) -> dict[str, Any]:
        return {"index": self.index, "label": self.label, "score": round(self.score, 4)}


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """`version` counts the versions admitted under `name`; `sha256` is the hash of the model file."""

    name: str
    version: int
    sha256: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "version": str(self.version), "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds spent in the worker thread; `decode` is 0 for a frame that arrives as pixels.

    `cpu` is the CPU time of this thread during invoke, without the time of other threads; `queue` is the time before,
    in which the image waited for a worker.
    """

    decode: float
    preprocess: float
    invoke: float
    total: float
    cpu: float = 0.0
    queue: float = 0.0

    def to_json(self) -> dict[str, float]:
        return {
            "decode": round(self.decode, 3),
            "preprocess": round(self.preprocess, 3),
            "invoke": round(self.invoke, 3),
            "total": round(self.total, 3),
        }


@dataclass(frozen=True, slots=True)
class Classification:
    """The categories of one image with at least the requested score, best first; may be empty."""

    model: ModelIdentity
    categories: tuple[Category, ...]
    timing: Timing


class Spot(NamedTuple):
    """One view of a camera; `view` is None if the camera has no named views. Uploads have a camera of their own."""

    camera: str
    view: str | None = None

    @property
    def topic(self) -> str:
        """Its place among the topics of the device, and in the routes below /api."""
        return f"cameras/{self.camera}" if self.view is None else f"cameras/{self.camera}/views/{self.view}"

    def __str__(self) -> str:
        return self.camera if self.view is None else f"{self.camera}, view {self.view}"


UPLOAD = Spot("upload")  # of every image that is not from a camera; a camera must not have this name


@dataclass(frozen=True, slots=True)
class Result:
    """A classification with its origin: device, source, capture time and sequence number.

    `seq` counts from 1 in each run of the agent; `boot` identifies the run. `captured_ns` is Unix time, which may be
    wrong unless `time_synced`.
    """

    id: str
    seq: int
    boot: str
    device: str
    source: str
    captured_ns: int
    classification: Classification
    time_synced: bool = True
    view: str | None = None

    @property
    def spot(self) -> Spot:
        return Spot(self.source, self.view)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "seq": self.seq,
            "boot": self.boot,
            "device": self.device,
            "source": self.source,
            **({} if self.view is None else {"view": self.view}),
            "captured_at": iso_time(self.captured_ns),
            **({} if self.time_synced else {"time_synced": False}),
            "model": self.classification.model.to_json(),
            "categories": [category.to_json() for category in self.classification.categories],
            "timing_ms": self.classification.timing.to_json(),
        }


@dataclass(frozen=True, slots=True)
class StableState:
    """The label that a camera has shown for `stable_frames`; None if no category reached the threshold."""

    label: str | None
    score: float | None
    since_ns: int
    model: ModelIdentity

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "score": None if self.score is None else round(self.score, 4),
            "since": iso_time(self.since_ns),
            "model": self.model.to_json(),
        }


def iso_time(unix_ns: int) -> str:
    """UTC with milliseconds and a Z, the format that JavaScript and Home Assistant use."""
    moment = datetime.fromtimestamp(unix_ns // 1_000_000 / 1000, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

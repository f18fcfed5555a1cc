"""Events and Results of a camera, made for tests."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from agent.classification import Category, Classification, ModelIdentity, Result, Spot, StableState, Timing
from agent.event import Event
from agent.ulid import ulid

if TYPE_CHECKING:
    from agent.event import EventType

FRONT = Spot("front")
START_NS = 1_800_000_000 * 10**9
MINUTE_NS = 60 * 10**9

_numbers = itertools.count(1)


def a_result(label: str | None, score: float = 0.9, *, spot: Spot = FRONT, captured_ns: int | None = None) -> Result:
    """Captured now unless `captured_ns` says when."""
    number = next(_numbers)
    categories = () if label is None else (Category(3, label, score), Category(4, "other", 0.01))
    classification = Classification(_model(2), categories, Timing(0, 1, 1, 2))
    at_ns = time.time_ns() if captured_ns is None else captured_ns
    return Result(ulid(at_ns), number, "boot", "pi", spot.camera, at_ns, classification, view=spot.view)


def a_state(label: str | None, *, version: int = 2, since_ns: int | None = None) -> StableState:
    return StableState(
        label, None if label is None else 0.9, time.time_ns() if since_ns is None else since_ns, _model(version)
    )


def an_event(
    label: str = "robin",
    *,
    at_ns: int = START_NS,
    kind: EventType = "end",
    spot: Spot = FRONT,
    has_frame: bool = False,
    event_id: str | None = None,
) -> Event:
    """It lasts for five seconds."""
    best = a_result(label, spot=spot, captured_ns=at_ns).to_json()
    return Event(event_id or ulid(at_ns), kind, spot, label, at_ns, at_ns + 5 * 10**9, best, has_frame)


def _model(version: int) -> ModelIdentity:
    return ModelIdentity("birds", version, f"{version:02d}" * 32)

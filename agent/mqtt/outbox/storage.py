"""Storage: where results wait for the broker, and how many. Pace: when they are saved and sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agent.host.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

Durability = Literal["spill", "group", "none"]


@dataclass(frozen=True, slots=True)
class Storage:
    """spill: results not acknowledged within 2 s are on disk; group: all are, within 0.1 s; none: no result is.

    `max_bytes` and `max_age_s` limit the results on disk, `max_memory_bytes` those in memory.
    `clock` dates them.
    """

    folder: Path
    durability: Durability = "spill"
    max_bytes: int = 64 << 20
    max_age_s: float = 7 * 24 * 3600.0
    max_memory_bytes: int = 4 << 20
    clock: Clock = field(default_factory=Clock)

    @property
    def segment_bytes(self) -> int:
        return min(1 << 20, self.max_bytes // 16)


@dataclass(frozen=True, slots=True)
class Pace:
    """A result is late after `late_after_s`. The agent uses the defaults; tests use shorter times.

    `spill_after_s` plus `look_every_s` must be below 2 s, `group_every_s` below 0.1 s. Five results of the backlog are
    sent per `backlog_tick_s`: 250 per second.
    """

    late_after_s: float = 2.0
    spill_after_s: float = 1.2
    look_every_s: float = 0.4
    group_every_s: float = 0.08
    retry_after_s: float = 2.0
    backlog_tick_s: float = 0.02
    note_cursor_every_s: float = 5.0

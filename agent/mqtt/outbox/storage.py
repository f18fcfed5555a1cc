"""Storage and Pace: where results wait for the broker, how many, and when they move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Durability = Literal["spill", "group", "none"]


@dataclass(frozen=True, slots=True)
class Storage:
    """spill: what is not acknowledged within 2 s is on the disk; group: everything is, within 0.1 s; none: nothing.

    `max_bytes` and `max_age_s` bound the disk, `max_memory_bytes` what waits in memory.
    """

    folder: Path
    durability: Durability = "spill"
    max_bytes: int = 64 << 20
    max_age_s: float = 7 * 24 * 3600.0
    max_memory_bytes: int = 4 << 20

    @property
    def segment_bytes(self) -> int:
        return min(1 << 20, self.max_bytes // 16)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. A result is late after `late_after_s`; tests are faster than the defaults, which the product uses.

    `spill_after_s` and `look_every_s` together are below 2 s, `group_every_s` is below 0.1 s. Each `backlog_tick_s`
    five results of the backlog may be sent: 250 a second.
    """

    late_after_s: float = 2.0
    spill_after_s: float = 1.2
    look_every_s: float = 0.4
    group_every_s: float = 0.08
    retry_after_s: float = 2.0
    backlog_tick_s: float = 0.02
    note_cursor_every_s: float = 5.0

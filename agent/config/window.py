"""Window: a part of each week by the local clock, such as mon-fri 22:00-06:00."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = f"(?:{'|'.join(_DAYS)})"
_TIME = "([01]?[0-9]|2[0-3]):([0-5][0-9])"
_FORM = re.compile(rf"(?:({_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*) +)?{_TIME} *- *(?:{_TIME}|24:00)", re.IGNORECASE)
_WHOLE_DAY = 24 * 60  # minutes
_SHOWN = 100  # characters of a wrong text in a message


@dataclass(frozen=True, slots=True)
class Window:
    """`days` are those on which it begins, Monday is 0; `begin` and `end` are minutes after midnight.

    It ends on the next day unless `end` is later than `begin`.
    """

    days: frozenset[int]
    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """Raises ValueError with what is wrong."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                "must be times such as 22:00-06:00, or days and times such as mon-fri,sun 22:00-06:00, "
                f"not {text[:_SHOWN]!r}."
            )
        days, *clock = found.groups()
        begin = int(clock[0]) * 60 + int(clock[1])
        end = _WHOLE_DAY if clock[2] is None else int(clock[2]) * 60 + int(clock[3])
        if begin == end:
            raise ValueError(
                f"must not begin and end at the same time, as {text[:_SHOWN]!r} does; the whole day is 00:00-24:00."
            )
        return cls(_numbers(days.lower()) if days else frozenset(range(7)), begin, end)

    def includes(self, local: datetime) -> bool:
        """`local` is what the clock on the wall shows: an hour that it shows twice in autumn counts both times."""
        today, minute = local.weekday(), local.hour * 60 + local.minute
        if self.begin < self.end:
            return today in self.days and self.begin <= minute < self.end
        return (today in self.days and minute >= self.begin) or ((today - 1) % 7 in self.days and minute < self.end)


def _numbers(days: str) -> frozenset[int]:
    numbers: set[int] = set()
    for part in days.split(","):
        first, _, last = part.partition("-")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        numbers.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(numbers)

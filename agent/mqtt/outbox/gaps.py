"""Gaps: results that will never be delivered, kept until the broker has acknowledged their announcement."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from agent.host.durable import replace_file, set_aside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Cause = Literal["max_bytes", "max_age", "disk", "memory", "damaged", "killed", "rejected", "too_large"]

_MAX_GAPS = 1000  # above this number, neighboring gaps are merged
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gap:
    """`count` missing results of the run `boot`, from `first_seq` to `last_seq`; None if unknown.

    If `count` is last - first + 1, all of them are missing.
    """

    boot: str
    first_seq: int | None
    last_seq: int | None
    count: int | None
    cause: Cause

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Gaps:
    """The unacknowledged gaps, oldest first, saved at `path`. Not thread-safe, except load() and save()."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[Gap] = []
        self._in_flight: list[Gap] = []
        self._saved: list[Gap] = []

    def load(self) -> list[Gap]:
        """Returns the gaps of an earlier run. Sets a damaged file aside and returns none. Blocks. Raises OSError."""
        try:
            return [_gap(**gap) for gap in json.loads(self._path.read_bytes())]
        except FileNotFoundError:
            return []
        except (IsADirectoryError, ValueError, TypeError):
            _logger.warning(
                "%s is damaged and is set aside. The gaps that it recorded will not be announced.", self._path
            )
            set_aside(self._path)
            return []

    def add(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            joined = _joined(self._waiting[-1], gap) if self._waiting else None
            if joined is None:
                self._waiting.append(gap)
            else:
                self._waiting[-1] = joined
        while len(self._waiting) > _MAX_GAPS and (pair := self._neighbors()) is not None:
            self._waiting[pair : pair + 2] = [_spanned(*self._waiting[pair : pair + 2])]

    def begin(self) -> Gap | None:
        """Returns the next gap to announce, which is in flight until done() or reset()."""
        if not self._waiting:
            return None
        self._in_flight.append(self._waiting.pop(0))
        return self._in_flight[-1]

    def done(self, gap: Gap) -> None:
        self._in_flight.remove(gap)

    def reset(self) -> None:
        """The connection was lost, so nothing is in flight."""
        self._waiting[:0] = self._in_flight
        self._in_flight.clear()

    def __bool__(self) -> bool:
        """Whether any gap is unacknowledged."""
        return bool(self._waiting or self._in_flight)

    @property
    def unsaved(self) -> list[Gap] | None:
        """What save() must write; None while the file is up to date."""
        gaps = [*self._in_flight, *self._waiting]
        return None if gaps == self._saved else gaps

    def save(self, gaps: list[Gap]) -> None:
        """Blocks; callable from any thread. Raises OSError."""
        if gaps:
            replace_file(self._path, json.dumps([asdict(gap) for gap in gaps]).encode())
        else:
            self._path.unlink(missing_ok=True)
        self._saved = gaps

    def _neighbors(self) -> int | None:
        pairs = zip(self._waiting, self._waiting[1:], strict=False)
        return next((index for index, (one, other) in enumerate(pairs) if one.boot == other.boot), None)


def _gap(boot: Any, first_seq: Any, last_seq: Any, count: Any, cause: Any) -> Gap:
    """Raises TypeError if the values are not those of a gap."""
    numbers = (first_seq, last_seq, count)
    if not isinstance(boot, str) or any(type(number) not in (int, type(None)) for number in numbers):
        raise TypeError
    return Gap(boot, first_seq, last_seq, count, cause)


def gaps_of(boot: str, seqs: Iterable[int], cause: Cause) -> list[Gap]:
    """Returns one gap for each run of consecutive numbers in `seqs`, which must ascend."""
    gaps: list[Gap] = []
    for seq in seqs:
        if gaps and gaps[-1].last_seq == seq - 1:
            gaps[-1] = _spanned(gaps[-1], Gap(boot, seq, seq, 1, cause))
        else:
            gaps.append(Gap(boot, seq, seq, 1, cause))
    return gaps


def _joined(one: Gap, other: Gap) -> Gap | None:
    """Returns both gaps as one if that loses no information."""
    follows = other.first_seq is not None and one.last_seq == other.first_seq - 1
    alike = (one.boot, one.cause) == (other.boot, other.cause)
    return _spanned(one, other) if follows and alike and one.count and other.count else None


def _spanned(one: Gap, other: Gap) -> Gap:
    count = None if one.count is None or other.count is None else one.count + other.count
    return Gap(one.boot, one.first_seq, other.last_seq, count, other.cause)

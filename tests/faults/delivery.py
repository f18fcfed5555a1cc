"""Delivery: the results that a device made, compared with those that arrived and with the announced gaps."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from faults.archive import Archive, Arrival

Place = tuple[str, int]  # boot, seq

_LATE_S = 3.0  # the agent marks results as late after 2 s; the rest is for delivery on a busy machine


@dataclass(frozen=True, slots=True)
class Delivery:
    """`made` has the seqs of each boot that were certainly made; others may arrive as well."""

    made: Mapping[str, Collection[int]]
    arrivals: Sequence[Arrival]
    gaps: Sequence[Mapping[str, Any]]

    @classmethod
    def to(cls, archive: Archive, made: Mapping[str, Collection[int]]) -> Delivery:
        return cls(made, archive.results, archive.gaps)

    @property
    def count(self) -> int:
        return sum(len(seqs) for seqs in self.made.values())

    @property
    def arrived(self) -> set[Place]:
        return {_place(arrival) for arrival in self.arrivals}

    @property
    def lost(self) -> set[Place]:
        arrived = self.arrived
        return {(boot, seq) for boot, seqs in self.made.items() for seq in seqs} - arrived

    @property
    def undeclared(self) -> set[Place]:
        """Lost, and not announced as a gap."""
        lost = self.lost
        return lost - _covered(lost, self.gaps)

    @property
    def wrongly_declared(self) -> set[Place]:
        """Announced as certainly missing, although they arrived."""
        return _covered(self.arrived, [gap for gap in self.gaps if _is_exact(gap)])

    @property
    def duplicates(self) -> int:
        """Sent twice by the agent; the broker marks its own redeliveries."""
        return len([each for each in self.arrivals if not each.redelivered]) - len(
            {each.message["id"] for each in self.arrivals if not each.redelivered}
        )

    @property
    def changed(self) -> set[str]:
        """Ids that arrived with several contents, and ids that share one place."""
        contents: dict[str, set[str]] = defaultdict(set)
        ids: dict[Place, set[str]] = defaultdict(set)
        for arrival in self.arrivals:
            content = {key: value for key, value in arrival.message.items() if key != "replayed"}
            contents[content["id"]].add(repr(content))
            ids[_place(arrival)].add(content["id"])
        twice = {name for names in ids.values() if len(names) > 1 for name in names}
        return twice | {name for name, each in contents.items() if len(each) > 1}

    @property
    def disordered(self) -> list[tuple[Place, Place]]:
        """Consecutive arrivals in the wrong order, among the live results or the late results of one run."""
        lines: dict[tuple[str, bool], list[Place]] = defaultdict(list)
        for arrival in _first_of_each(self.arrivals):
            lines[arrival.message["boot"], "replayed" in arrival.message].append(_place(arrival))
        return [pair for line in lines.values() for pair in itertools.pairwise(line) if pair[0] > pair[1]]

    @property
    def unmarked(self) -> list[Place]:
        """Late, but not marked as replayed."""
        late = (each for each in self.arrivals if each.at_s - _LATE_S > _captured_s(each) > each.held_s)
        return [_place(arrival) for arrival in late if arrival.message.get("replayed") is not True]

    @property
    def untimely(self) -> list[tuple[Place, Place]]:
        """Consecutive results of one camera whose times decrease: an original timestamp was lost."""
        lines: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
        of_cameras = (each for each in _first_of_each(self.arrivals) if each.message["source"] != "upload")
        for arrival in sorted(of_cameras, key=_place):
            lines[arrival.message["boot"], arrival.message["source"]].append(arrival)
        pairs = (pair for line in lines.values() for pair in itertools.pairwise(line))
        return [(_place(one), _place(two)) for one, two in pairs if _captured_s(one) > _captured_s(two)]

    @property
    def flaws(self) -> dict[str, list[object]]:
        """Errors that are never allowed, whatever was lost; the count and a few examples of each kind."""
        kinds: dict[str, Collection[object]] = {
            "changed": self.changed,
            "disordered": self.disordered,
            "late without a mark": self.unmarked,
            "times decrease": self.untimely,
            "announced as lost, but arrived": self.wrongly_declared,
        }
        return {kind: [len(found), *found][:5] for kind, found in kinds.items() if found}


def up_to(boot: str, seq: int) -> dict[str, range]:
    """All results of a run up to and including this one."""
    return {boot: range(1, seq + 1)}


def _place(arrival: Arrival) -> Place:
    return arrival.message["boot"], arrival.message["seq"]


def _captured_s(arrival: Arrival) -> float:
    return datetime.fromisoformat(arrival.message["captured_at"].replace("Z", "+00:00")).timestamp()


def _first_of_each(arrivals: Iterable[Arrival]) -> list[Arrival]:
    first: dict[Place, Arrival] = {}
    for arrival in arrivals:
        first.setdefault(_place(arrival), arrival)
    return list(first.values())


def _covered(places: set[Place], gaps: Iterable[Mapping[str, Any]]) -> set[Place]:
    """The `places` inside a gap; a gap without a first or last seq is open at that side."""
    spans = [(gap["boot"], gap["first_seq"] or 1, gap["last_seq"] or float("inf")) for gap in gaps]
    return {
        (boot, seq) for boot, seq in places if any(boot == of and first <= seq <= last for of, first, last in spans)
    }


def _is_exact(gap: Mapping[str, Any]) -> bool:
    if gap["count"] is None or gap["first_seq"] is None or gap["last_seq"] is None:
        return False
    return bool(gap["count"] == gap["last_seq"] - gap["first_seq"] + 1)

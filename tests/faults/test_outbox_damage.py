"""Damage to the outbox's files: the agent starts, delivers the readable results and announces the others as lost."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import wait_until
from faults.archive import Archive
from faults.makers import PERSISTENT, agent_at, last_made, metric, mqtt_of, settled
from faults.seeds import SeededSegment, seed
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agents.running_agent import RunningAgent
    from faults.figures import Figures
    from faults.scale import Scale

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(900)]

_GROUPS, _PER_GROUP = 6, 5
_CHANCE = random.Random(7)


def _flip(segment: SeededSegment) -> set[int]:
    """One bit."""
    content, place = bytearray(segment.path.read_bytes()), _CHANCE.randrange(segment.size)
    content[place] ^= 1 << _CHANCE.randrange(8)
    segment.path.write_bytes(content)
    return _touched(segment, place, place + 1)


def _cut(segment: SeededSegment) -> set[int]:
    place = _CHANCE.randrange(1, segment.size)
    segment.path.write_bytes(segment.path.read_bytes()[:place])
    return _touched(segment, place, segment.size)


def _zero(segment: SeededSegment) -> set[int]:
    """A range of bytes, like a lost block."""
    begin = _CHANCE.randrange(segment.size)
    end = min(segment.size, begin + _CHANCE.choice((1, 16, 512, 4096)))
    content = bytearray(segment.path.read_bytes())
    changed = [place for place in range(begin, end) if content[place]]
    content[begin:end] = bytes(end - begin)
    segment.path.write_bytes(content)
    return _touched(segment, changed[0], changed[-1] + 1) if changed else set()


def _fill_with_zeros(segment: SeededSegment) -> set[int]:
    segment.path.write_bytes(bytes(segment.size))
    return _touched(segment, 0, segment.size)


def _empty(segment: SeededSegment) -> set[int]:
    segment.path.write_bytes(b"")
    return _touched(segment, 0, segment.size)


def _fill_with_garbage(segment: SeededSegment) -> set[int]:
    segment.path.write_bytes(_CHANCE.randbytes(_CHANCE.randrange(1, 9000)))
    return _touched(segment, 0, segment.size)


def _append_garbage(segment: SeededSegment) -> set[int]:
    with segment.path.open("ab") as file:
        file.write(_CHANCE.randbytes(_CHANCE.randrange(1, 200)))
    return set()


def _put_a_folder_there(segment: SeededSegment) -> set[int]:
    segment.path.unlink()
    (segment.path / "inside").mkdir(parents=True)
    return _touched(segment, 0, segment.size)


_DAMAGES: dict[str, Callable[[SeededSegment], set[int]]] = {
    "a flipped bit": _flip,
    "truncated": _cut,
    "some zeros": _zero,
    "all zeros": _fill_with_zeros,
    "empty": _empty,
    "garbage": _fill_with_garbage,
    "garbage appended": _append_garbage,
    "a folder in its place": _put_a_folder_there,
}
_ANYWHERE = ("a flipped bit", "truncated", "some zeros")  # damage at a random place, so it is worth repeating


def _touched(segment: SeededSegment, begin: int, end: int) -> set[int]:
    """The indexes of the groups with a byte between `begin` and `end`."""
    touched, start = set(), 0
    for number, group in enumerate(segment.groups):
        if begin < start + len(group.content) and start < end:
            touched.add(number)
        start += len(group.content)
    return touched


def test_the_agent_starts_after_any_damage_and_loses_only_damaged_results(
    tmp_path: Path, figures: Figures, scale: Scale
) -> None:
    """One outbox, to which each round adds a file; the agent is stopped and killed alternately."""
    rounds = scale(short=12, full=200)
    outbox = tmp_path / "state" / "outbox"
    segments: list[SeededSegment] = []
    made: dict[str, list[int]] = {}
    done: dict[str, list[str]] = defaultdict(list)
    readable: set[tuple[str, int]] = set()
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        agent_at(broker.port, tmp_path, cameras=0) as agent,
    ):
        agent.end()
        broker.stop()
        for number in range(rounds):
            segments.append(seed(outbox, groups=_GROUPS, per_group=_PER_GROUP))
            made[segments[-1].boot] = segments[-1].seqs
            name = list(_DAMAGES)[number % len(_DAMAGES)] if number % 2 else _CHANCE.choice(_ANYWHERE)
            damaged = _CHANCE.choice(segments[-8:])
            done[damaged.boot].append(f"{name} at start {number + 1}")
            _damage(damaged, name, segments)
            readable = {(segment.boot, seq) for segment in segments for seq in segment.seqs}
            agent.restart()
            _wait_until_counted(agent, len(readable), what=f"start {number + 1}, {name}: results are counted")
            assert mqtt_of(agent)["outbox_trouble"] is None
            _end(agent, cleanly=number % 2 == 0)  # after several kills in a row, the model would be blamed
        broker.start()
        agent.restart()
        delivery = settled(agent, archive, made, timeout_s=10 + len(readable) / 50)
        last = last_made(agent)
        wait_until(lambda: archive.has(*last), what="a new result arrives")
        agent.end()
    lost = len(delivery.lost & readable)
    figures(f"the outbox damaged {rounds} times, each before a start: failed starts", "0", "0")
    figures(f"the outbox damaged {rounds} times: lost readable results", "0", f"{lost} of {len(readable)}")
    figures(
        f"the outbox damaged {rounds} times: damaged results",
        "all announced",
        f"{len(delivery.lost)}, of which {len(delivery.undeclared)} were not announced",
    )
    assert delivery.lost & readable == set()
    assert {boot: done[boot] for boot, _ in delivery.undeclared} == {}
    assert delivery.wrongly_declared == set()
    assert delivery.duplicates == 0


@pytest.mark.parametrize("name", ["gaps.json", "running"])
@pytest.mark.parametrize("kind", ["garbage", "empty", "folder"])
def test_the_agent_starts_if_something_else_replaces_a_file_of_the_outbox(
    tmp_path: Path, scale: Scale, name: str, kind: str
) -> None:
    """And continues to write results to the disk."""
    if kind == "empty" and not scale.full:
        pytest.skip("only in the full form")
    outbox = tmp_path / "state" / "outbox"
    segment = seed(outbox, groups=2, per_group=5)
    _put(outbox / name, kind)
    with Mosquitto(tmp_path, config=PERSISTENT) as broker, Archive(broker.port) as archive:
        broker.stop()
        with agent_at(broker.port, tmp_path, cameras=0) as agent:
            _wait_until_counted(agent, len(segment.seqs), what="the earlier results are counted")
            first = last_made(agent)
            wait_until(lambda: metric(agent, "outbox_bytes") > segment.size, what="another result is on the disk")
            assert mqtt_of(agent)["outbox_trouble"] is None
            agent.process.kill()
            agent.process.wait()
            broker.start()
            agent.restart()
            made = {segment.boot: segment.seqs, first[0]: [first[1]]}
            assert settled(agent, archive, made, timeout_s=20).lost == set()
            agent.end()


@pytest.mark.parametrize("kind", ["garbage", "empty"])
def test_a_file_in_place_of_the_outbox_folder_is_reported_until_it_is_removed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "state").mkdir()
    outbox = tmp_path / "state" / "outbox"
    _put(outbox, kind)
    with Mosquitto(tmp_path, config=PERSISTENT) as broker:
        broker.stop()
        with agent_at(broker.port, tmp_path, cameras=0) as agent:
            last_made(agent)
            wait_until(lambda: str(outbox) in (mqtt_of(agent)["outbox_trouble"] or ""), what="the fault is reported")
            outbox.unlink()
            wait_until(lambda: metric(agent, "outbox_bytes") > 0, what="the result is on the disk")
            assert mqtt_of(agent)["outbox_trouble"] is None
            agent.end()


def _put(path: Path, kind: str) -> None:
    if kind == "folder":
        (path / "inside").mkdir(parents=True)
    else:
        path.write_bytes(b"\0\xffgarbage" if kind == "garbage" else b"")


def _damage(segment: SeededSegment, name: str, segments: list[SeededSegment]) -> None:
    touched = _DAMAGES[name](segment)
    for number in sorted(touched, reverse=True):
        del segment.groups[number]
    if not segment.groups:
        segments.remove(segment)


def _wait_until_counted(agent: RunningAgent, messages: int, *, what: str) -> None:
    wait_until(lambda: metric(agent, "outbox_messages") == messages, timeout_s=20, what=what)


def _end(agent: RunningAgent, *, cleanly: bool) -> None:
    if cleanly:
        agent.end()
        assert agent.process.returncode == 0
    else:
        agent.process.kill()
        agent.process.wait()

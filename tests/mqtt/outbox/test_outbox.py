from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from peers.subscriber import until

from agent.mqtt.outbox import disk_writer, outbox as outbox_module
from agent.mqtt.outbox.blocks import Entry
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.segments import Segments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.mqtt.outbox.disk_writer import Durability
    from agent.mqtt.outbox.gaps import Gap

_BOOT = "01M8AAAAAAAAAAAAAAAAAAAAAA"
_LATER = "01M8BBBBBBBBBBBBBBBBBBBBBB"
_WINDOW = 20
_WRONG_GAP = b'[{"boot": "b", "first_seq": "3", "last_seq": 4, "count": 1, "cause": "memory"}]'


class Wire:
    """A broker that acknowledges when it is told to, behind an outbox."""

    def __init__(
        self,
        folder: Path,
        *,
        boot: str = _BOOT,
        durability: Durability = "spill",
        **bounds: Any,
    ) -> None:
        self.sent: list[tuple[int, Entry, bool]] = []
        self.gaps: list[tuple[int, Gap]] = []
        self.unacknowledged: set[int] = set()
        self.most_unacknowledged = 0
        self._boot = boot
        self._seq = 0
        self._number = 0
        self.outbox = Outbox(
            folder=folder,
            boot=boot,
            send=self._send,
            announce=self._announce,
            room=lambda: _WINDOW - len(self.unacknowledged),
            backlog_room=lambda: _WINDOW - 4 - len(self.unacknowledged),
            durability=durability,
            **{"max_bytes": 1 << 20, "max_age_s": 3600.0, **bounds},
        )

    def put(self, count: int = 1, *, size: int = 10) -> None:
        for _ in range(count):
            self._seq += 1
            self.outbox.put(Entry(self._boot, self._seq, "t", b"{%s}" % random.randbytes(size)))

    def acknowledge_all(self) -> None:
        while self.unacknowledged:
            self.acknowledge(min(self.unacknowledged))

    def acknowledge(self, number: int, failure: str | None = None) -> None:
        self.unacknowledged.discard(number)
        self.outbox.acknowledge(number, failure)

    def connect(self) -> None:
        self.outbox.open()

    def disconnect(self) -> None:
        self.unacknowledged.clear()
        self.outbox.pause()

    async def until_delivered(self) -> None:
        async def acknowledge() -> None:
            while not self._is_done():
                self.acknowledge_all()
                await asyncio.sleep(0.005)

        await asyncio.wait_for(acknowledge(), 20)

    def _is_done(self) -> bool:
        gaps = self.outbox._writer.gaps
        return self.outbox._writer.opened and not (self.outbox.status.messages or gaps._waiting or gaps._under_way)

    def seqs(self) -> list[int]:
        return [entry.seq for _, entry, _ in self.sent]

    def told(self) -> list[dict[str, Any]]:
        return [gap.to_json() for _, gap in self.gaps]

    def _send(self, entry: Entry, late: bool) -> int:  # noqa: FBT001
        self.sent.append((self._next(), entry, late))
        return self._number

    def _announce(self, gap: Gap) -> int:
        self.gaps.append((self._next(), gap))
        return self._number

    def _next(self) -> int:
        self._number += 1
        self.unacknowledged.add(self._number)
        self.most_unacknowledged = max(self.most_unacknowledged, len(self.unacknowledged))
        return self._number


@asynccontextmanager
async def _running(wire: Wire, *, close: bool = True) -> AsyncIterator[Wire]:
    """Without `close` it ends as by kill -9: what is in memory only is lost."""
    task = asyncio.create_task(wire.outbox.run())
    try:
        yield wire
    finally:
        if close:
            wire.outbox.stop()
            await wire.outbox.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _bytes_on_disk(folder: Path) -> int:
    size = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds become a tenth, and the backlog drains as fast as it is acknowledged."""
    monkeypatch.setattr(disk_writer, "_SPILL_AFTER_S", 0.06)
    monkeypatch.setattr(disk_writer, "_LOOK_EVERY_S", {"spill": 0.02, "group": 0.02, "none": 0.02})
    monkeypatch.setattr(disk_writer, "_RETRY_S", 0.02)
    monkeypatch.setattr(outbox_module, "_TICK_S", 0.001)
    monkeypatch.setattr("agent.mqtt.outbox.queue.LATE_AFTER_S", 0.1)


def test_while_the_link_is_good_nothing_is_written(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        folder = tmp_path / "outbox"
        async with _running(Wire(folder)) as wire:
            await until((folder / "running").exists)
            wire.connect()
            for _ in range(50):
                wire.put()
                wire.acknowledge_all()
                await asyncio.sleep(0.002)
            assert wire.seqs() == list(range(1, 51))
            assert not any(late for _, _, late in wire.sent)
            assert _files(folder) == ["running"]
        assert _files(folder) == []

    asyncio.run(scenario())


def test_what_the_broker_does_not_acknowledge_goes_to_the_disk_and_survives_a_kill(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path), close=False) as wire:
            wire.connect()
            wire.put(30)
            assert wire.seqs() == list(range(1, 21)), "the window"
            await until(lambda: wire.outbox.status.size)
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.put()
            later.connect()
            await later.until_delivered()
            assert sorted(later.seqs()) == sorted([1, *range(1, 31)])
            assert {entry.seq for _, entry, late in later.sent if late} == set(range(1, 31))
            assert later.told()[0] == {
                "boot": _BOOT, "first_seq": 31, "last_seq": None, "count": None, "cause": "killed"
            }  # fmt: skip
        assert _files(tmp_path) == []

    asyncio.run(scenario())


def test_a_clean_stop_leaves_everything_on_the_disk_and_tells_no_gap(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(100)
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.connect()
            await later.until_delivered()
            assert later.seqs() == list(range(1, 101))
            assert later.gaps == []

    asyncio.run(scenario())


def test_a_stop_before_anything_ran_saves_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        wire = Wire(tmp_path)
        wire.put(3)
        await wire.outbox.close()
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.connect()
            await later.until_delivered()
            assert later.seqs() == [1, 2, 3]

    asyncio.run(scenario())


def test_after_a_lost_connection_at_most_the_window_comes_twice_and_the_oldest_first(
    tmp_path: Path, quick: None
) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.connect()
            wire.put(50)
            wire.acknowledge(1)
            wire.disconnect()
            await until(lambda: wire.outbox.status.size)
            before = len(wire.sent)
            wire.connect()
            await wire.until_delivered()
            again = [entry.seq for _, entry, _ in wire.sent[before:]]
            assert again == list(range(2, 51))
            assert all(late for _, _, late in wire.sent[before:])
            assert wire.most_unacknowledged <= _WINDOW

    asyncio.run(scenario())


def test_live_results_do_not_wait_for_the_backlog(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(2000)
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.connect()
            await until(lambda: len(later.sent) > 10)
            for _ in range(20):
                later.acknowledge_all()
                seen = len(later.sent)
                later.put()
                assert later.sent[seen][1].boot == _LATER, "at once"
                assert not later.sent[seen][2]
                await asyncio.sleep(0.01)
            assert later.outbox.status.messages > 1500, "the backlog drains at a bounded rate"

    asyncio.run(scenario())


def test_backlog_leaves_room_in_the_window_for_live_results(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(100)
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.connect()
            await until(lambda: len(later.sent) == 16)
            await asyncio.sleep(0.05)
            assert len(later.sent) == 16
            later.put(9)
            assert [entry.boot for _, entry, _ in later.sent[16:]] == [_LATER] * 4

    asyncio.run(scenario())


def test_in_group_nothing_is_sent_before_the_disk_has_it(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path, durability="group"), close=False) as wire:
            wire.connect()
            wire.put(5)
            assert wire.sent == []
            await until(lambda: wire.sent)
            assert _segments(tmp_path)
            assert wire.seqs() == [1, 2, 3, 4, 5]
            assert not any(late for _, _, late in wire.sent), "nor is it late"
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.connect()
            await later.until_delivered()
            assert later.seqs() == [1, 2, 3, 4, 5], "they were not acknowledged"

    asyncio.run(scenario())


def test_in_group_each_is_sent_once_while_groups_follow_one_another(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path, durability="group")) as wire:
            wire.connect()
            for _ in range(100):
                wire.put()
                wire.acknowledge_all()
                await asyncio.sleep(0.003)
            await wire.until_delivered()
            assert wire.seqs() == list(range(1, 101))

    asyncio.run(scenario())


@pytest.mark.parametrize("durability", ["spill", "group"])
def test_a_slow_broker_gets_everything_once(tmp_path: Path, quick: None, durability: Durability) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path, durability=durability)) as wire:
            wire.connect()
            for _ in range(60):
                wire.put(2)
                if wire.unacknowledged:
                    wire.acknowledge(min(wire.unacknowledged))
                await asyncio.sleep(0.01)
            await wire.until_delivered()
            assert sorted(wire.seqs()) == list(range(1, 121))

    asyncio.run(scenario())


def test_none_writes_nothing_and_keeps_the_order(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        folder = tmp_path / "outbox"
        async with _running(Wire(folder, durability="none")) as wire:
            wire.put(200)
            await asyncio.sleep(0.15)
            wire.connect()
            await wire.until_delivered()
            assert wire.seqs() == list(range(1, 201))
            assert not folder.exists()

    asyncio.run(scenario())


def test_none_still_delivers_what_an_earlier_run_left(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(10)
        async with _running(Wire(tmp_path, boot=_LATER, durability="none")) as later:
            later.connect()
            await later.until_delivered()
            assert later.seqs() == list(range(1, 11))

    asyncio.run(scenario())


@pytest.mark.parametrize("durability", ["none", "spill"])
def test_memory_is_a_ring_whose_losses_are_announced(
    tmp_path: Path, quick: None, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_MEMORY_BYTES", 10_000)

    async def scenario() -> None:
        folder = tmp_path / "outbox"
        folder.write_bytes(b"")  # no folder can be made here
        async with _running(Wire(folder, durability=durability)) as wire:
            wire.put(25, size=998)
            if durability == "spill":
                await until(lambda: wire.outbox.status.trouble)
                assert "cannot be used: " in str(wire.outbox.status.trouble)
                folder.unlink()
            wire.connect()
            await wire.until_delivered()
            assert sorted(wire.seqs()) == list(range(16, 26))
            assert wire.told() == [{"boot": _BOOT, "first_seq": 1, "last_seq": 15, "count": 15, "cause": "memory"}]
            assert wire.outbox.status.evicted == 15
            await until(lambda: wire.outbox.status.trouble is None)

    asyncio.run(scenario())


def test_over_its_bound_the_oldest_goes_and_exactly_what_is_lost_is_announced(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path, max_bytes=64_000)) as wire:
            for _ in range(200):
                wire.put(100, size=100)
                await asyncio.sleep(0.002)
                assert _bytes_on_disk(tmp_path) <= 64_000
            await until(lambda: wire.outbox.status.evicted)
        async with _running(Wire(tmp_path, boot=_LATER, max_bytes=64_000)) as later:
            later.connect()
            await later.until_delivered()
            lost = set(range(1, 20_001)) - set(later.seqs())
            told = [seq for gap in later.told() for seq in range(gap["first_seq"], gap["last_seq"] + 1)]
            assert lost
            assert sorted(told) == sorted(lost)
            assert sum(gap["count"] for gap in later.told()) == len(lost)
            assert {gap["cause"] for gap in later.told()} == {"max_bytes"}

    asyncio.run(scenario())


def test_what_is_too_old_goes(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(3)
        async with _running(Wire(tmp_path, boot=_LATER, max_age_s=0.3)) as later:
            later.put(2)
            await until(lambda: later.outbox.status.evicted == 5)
            later.connect()
            await later.until_delivered()
            assert later.sent == []
            assert [(gap["boot"], gap["count"], gap["cause"]) for gap in later.told()] == [
                (_BOOT, 3, "max_age"), (_LATER, 2, "max_age")
            ]  # fmt: skip

    asyncio.run(scenario())


def test_a_gap_that_was_not_acknowledged_is_announced_again_also_by_the_next_run(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        gap = {"boot": _BOOT, "first_seq": 7, "last_seq": 9, "count": 3, "cause": "max_bytes"}
        (tmp_path / "gaps.json").write_text(json.dumps([gap]))
        async with _running(Wire(tmp_path)) as wire:
            wire.connect()
            await until(lambda: wire.gaps)
            wire.disconnect()
            wire.connect()
            assert wire.told() == [gap, gap]
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.connect()
            await later.until_delivered()
            assert later.told() == [gap]
        assert _files(tmp_path) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"boot": 1}]', bytes(100), b'{"a": 1}', _WRONG_GAP])
def test_a_damaged_list_of_gaps_keeps_nothing_from_working(tmp_path: Path, quick: None, content: bytes) -> None:
    async def scenario() -> None:
        (tmp_path / "gaps.json").write_bytes(content)
        async with _running(Wire(tmp_path)) as wire:
            wire.put(3)
            wire.connect()
            await wire.until_delivered()
            assert wire.seqs() == [1, 2, 3]

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["running", "gaps.json"])
def test_a_folder_in_a_files_place_is_set_aside(tmp_path: Path, quick: None, name: str) -> None:
    async def scenario() -> None:
        (tmp_path / name / "full").mkdir(parents=True)
        (tmp_path / f"{name}.damaged" / "full").mkdir(parents=True)
        async with _running(Wire(tmp_path)) as wire:
            wire.put(3)
            wire.connect()
            await wire.until_delivered()
            await until(lambda: _files(tmp_path) == sorted([f"{name}.damaged", "running"]))
            assert wire.outbox.status.trouble is None

    asyncio.run(scenario())


def test_what_the_broker_refuses_is_announced(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.connect()
            wire.put(2)
            wire.acknowledge(1, "Quota exceeded")
            wire.acknowledge_all()
            assert [(gap["first_seq"], gap["cause"]) for gap in wire.told()] == [(1, "rejected")]

    asyncio.run(scenario())


def test_damage_that_is_found_while_it_runs_is_announced_and_set_aside(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(10)
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            await until(lambda: later.outbox.status.messages == 10)
            (path,) = _segments(tmp_path)
            path.write_bytes(bytes(path.stat().st_size))
            later.connect()
            await later.until_delivered()
            assert later.told() == [
                {"boot": _BOOT, "first_seq": 1, "last_seq": 10, "count": 10, "cause": "damaged"}
            ]  # fmt: skip
            assert path.with_name(path.name + ".damaged").exists()

    asyncio.run(scenario())


def test_progress_outlasts_a_kill_in_the_middle_of_the_backlog(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mqtt.outbox.backlog._NOTE_CURSOR_EVERY_S", 0.0)

    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(100)
        async with _running(Wire(tmp_path, boot=_LATER), close=False) as killed:
            killed.connect()
            while len(killed.sent) < 60:
                await asyncio.sleep(0.001)
                killed.acknowledge_all()
            await until(lambda: killed.outbox._writer.backlog._noted[1].entry > 20)
        async with _running(Wire(tmp_path, boot="01M8CCCCCCCCCCCCCCCCCCCCCC")) as last:
            last.connect()
            await last.until_delivered()
            assert min(last.seqs()) > 20
            assert max(last.seqs()) == 100

    asyncio.run(scenario())


def test_what_an_earlier_run_lost_is_told_once_although_the_disk_refuses_at_first(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        (tmp_path / "running").write_text(_BOOT)
        refusals = [OSError(28, "No space left on device")] * 3
        begin = Segments.begin

        def refusing(segments: Segments) -> None:
            if refusals:
                raise refusals.pop()
            begin(segments)

        monkeypatch.setattr(Segments, "begin", refusing)
        async with _running(Wire(tmp_path, boot=_LATER)) as wire:
            await until(lambda: wire.outbox.status.trouble)
            wire.connect()
            await wire.until_delivered()
            assert [gap["cause"] for gap in wire.told()] == ["killed"]

    asyncio.run(scenario())


def test_a_damaged_segment_on_a_disk_that_refuses_ends_nothing(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(10)
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            await until(lambda: later.outbox.status.messages == 10)
            (path,) = _segments(tmp_path)
            path.write_bytes(bytes(path.stat().st_size))

            def refuse(path: Path, content: bytes) -> None:
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr("agent.mqtt.outbox.gaps.replace_file", refuse)
                later.connect()
                await until(lambda: later.outbox.status.trouble)
            later.put(3)
            await later.until_delivered()
            assert later.seqs() == [1, 2, 3]
            assert [gap["count"] for gap in later.told()] == [10]

    asyncio.run(scenario())


def test_what_memory_gives_up_while_it_is_written_is_lost_as_it_was_said(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_MEMORY_BYTES", 5_000)
    append = Segments.append
    writes, may_write = threading.Event(), threading.Event()

    def slow(segments: Segments, *arguments: Any) -> Any:
        writes.set()
        assert may_write.wait(10)
        return append(segments, *arguments)

    monkeypatch.setattr(Segments, "append", slow)

    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(5, size=998)
            await until(writes.is_set)
            wire.put(3, size=998)
            may_write.set()
            wire.connect()
            await wire.until_delivered()
            assert sorted(wire.seqs()) == [4, 5, 6, 7, 8]
            assert [(gap["first_seq"], gap["count"]) for gap in wire.told()] == [(1, 3)]

    asyncio.run(scenario())


def test_a_gap_that_the_broker_refuses_is_told_again_at_the_next_connect(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        gap = {"boot": _BOOT, "first_seq": 7, "last_seq": 9, "count": 3, "cause": "max_bytes"}
        (tmp_path / "gaps.json").write_text(json.dumps([gap]))
        async with _running(Wire(tmp_path)) as wire:
            wire.connect()
            await until(lambda: wire.gaps)
            wire.acknowledge(wire.gaps[0][0], "Not authorized")
            await asyncio.sleep(0.05)
            assert wire.told() == [gap]
            wire.disconnect()
            wire.connect()
            await wire.until_delivered()
            assert wire.told() == [gap, gap]

    asyncio.run(scenario())


def test_a_disk_that_refuses_from_the_start_keeps_nobody_from_what_is_on_it(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(30)
        monkeypatch.setattr(Segments, "begin", refuse)
        monkeypatch.setattr(Segments, "append", refuse)
        async with _running(Wire(tmp_path, boot=_LATER)) as later:
            later.connect()
            later.put(2)
            await until(lambda: len(later.sent) >= 16)
            later.acknowledge_all()
            await later.until_delivered()
            assert len(later.sent) == 32
            assert "Read-only file system" in str(later.outbox.status.trouble)

    asyncio.run(scenario())


def test_what_an_earlier_run_made_and_the_disk_gives_up_while_it_is_sent_is_announced_when_it_comes_back(
    tmp_path: Path, quick: None
) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(30)
        async with _running(Wire(tmp_path, boot=_LATER, max_age_s=0.4)) as later:
            later.connect()
            await until(lambda: len(later.sent) == 16)
            await until(lambda: later.outbox.status.evicted == 14)
            later.disconnect()
            later.put()
            later.connect()
            await later.until_delivered()
            told = [seq for gap in later.told() for seq in range(gap["first_seq"], gap["last_seq"] + 1)]
            assert set(told) == set(range(1, 31))
            assert later.seqs()[16:] == [1]

    asyncio.run(scenario())


def test_age_counts_for_a_few_results_too(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        async with _running(Wire(tmp_path, max_age_s=0.5)) as wire:
            for _ in range(10):
                wire.put()
                await asyncio.sleep(0.12)
            wire.connect()
            await wire.until_delivered()
            lost = {seq for gap in wire.told() for seq in range(gap["first_seq"], gap["last_seq"] + 1)}
            assert 1 in lost
            assert 10 not in lost
            assert lost | set(wire.seqs()) == set(range(1, 11))

    asyncio.run(scenario())


def test_on_a_full_disk_the_oldest_goes_once_memory_is_half_full(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Segments.append
    in_the_way: list[Path] = []

    def refuse(segments: Segments, *arguments: Any) -> Any:
        if any(path.exists() for path in in_the_way):
            raise OSError(28, "No space left on device")
        return append(segments, *arguments)

    monkeypatch.setattr(Segments, "append", refuse)
    monkeypatch.setattr(disk_writer, "MAX_MEMORY_BYTES", 20_000)

    async def scenario() -> None:
        async with _running(Wire(tmp_path, max_bytes=1 << 16)) as wire:
            wire.put(20, size=1000)
            await until(lambda: not wire.outbox._queue.unsaved())
            in_the_way.append(_segments(tmp_path)[0])
            wire.put(5, size=1000)
            await until(lambda: wire.outbox.status.trouble)
            assert wire.outbox.status.evicted == 0
            wire.put(6, size=1000)
            await until(lambda: wire.outbox.status.trouble is None)
            wire.connect()
            await wire.until_delivered()
            (gap,) = wire.told()
            assert (gap["first_seq"], gap["last_seq"], gap["cause"]) == (1, gap["count"], "disk")
            assert sorted(wire.seqs()) == list(range(gap["last_seq"] + 1, 32))

    asyncio.run(scenario())


def test_without_durability_an_earlier_kill_is_told_once(tmp_path: Path, quick: None) -> None:
    async def scenario() -> None:
        (tmp_path / "running").write_text(_BOOT)
        for told in (["killed"], []):
            async with _running(Wire(tmp_path, boot=_LATER, durability="none")) as wire:
                wire.connect()
                await wire.until_delivered()
                assert [gap["cause"] for gap in wire.told()] == told

    asyncio.run(scenario())


def test_damage_is_told_on_the_disk_before_it_is_gone_from_it(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Segments) -> None:
        raise OSError(5, "Input/output error")

    async def scenario() -> None:
        async with _running(Wire(tmp_path)) as wire:
            wire.put(10)
        (path,) = _segments(tmp_path)
        path.write_bytes(b"no segment")
        monkeypatch.setattr(Segments, "repair", refuse)
        async with _running(Wire(tmp_path, boot=_LATER), close=False) as later:
            await until(lambda: later.outbox.status.trouble)
            assert [gap["cause"] for gap in json.loads((tmp_path / "gaps.json").read_text())] == ["damaged"]
            assert path.read_bytes() == b"no segment"

    asyncio.run(scenario())

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from agents.wired_outbox import BOOT, LATER_BOOT, WiredOutbox, blocks, bytes_on_disk, files, running, segments
from peers.subscriber import until

from agent.mqtt.outbox.segments import Segments

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.outbox.storage import Durability


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["none", "spill"])
async def test_full_memory_drops_the_oldest_results_and_announces_them(tmp_path: Path, durability: Durability) -> None:
    folder = tmp_path / "outbox"
    folder.write_bytes(b"")  # no folder can be created here
    async with running(WiredOutbox(folder, durability=durability, max_memory_bytes=10_000)) as wire:
        wire.put(25, size=998)
        if durability == "spill":
            await until(lambda: wire.outbox.status.trouble)
            assert "Cannot use the outbox folder" in str(wire.outbox.status.trouble)
            folder.unlink()
        wire.connect()
        await wire.until_delivered()
        assert sorted(wire.seqs()) == list(range(16, 26))
        assert wire.announced() == [{"boot": BOOT, "first_seq": 1, "last_seq": 15, "count": 15, "cause": "memory"}]
        assert wire.outbox.status.evicted == 15
        await until(lambda: wire.outbox.status.trouble is None)


@pytest.mark.anyio
async def test_max_bytes_drops_the_oldest_results_and_announces_exactly_those(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path, max_bytes=64_000)) as wire:
        for _ in range(200):
            wire.put(100, size=100)
            await asyncio.sleep(0.002)
            assert bytes_on_disk(tmp_path) <= 64_000
        await until(lambda: wire.outbox.status.evicted)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, max_bytes=64_000)) as later:
        later.connect()
        await later.until_delivered()
        lost = set(range(1, 20_001)) - set(later.seqs())
        announced = later.announced_seqs()
        assert lost
        assert sorted(announced) == sorted(lost)
        assert sum(gap["count"] for gap in later.announced()) == len(lost)
        assert {gap["cause"] for gap in later.announced()} == {"max_bytes"}


@pytest.mark.anyio
async def test_results_that_are_too_old_are_dropped_and_announced(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(3)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, max_age_s=0.3)) as later:
        later.put(2)
        await until(lambda: later.outbox.status.evicted == 5)
        later.connect()
        await later.until_delivered()
        assert later.sent == []
        assert [(gap["boot"], gap["count"], gap["cause"]) for gap in later.announced()] == [
            (BOOT, 3, "max_age"), (LATER_BOOT, 2, "max_age")
        ]  # fmt: skip


@pytest.mark.anyio
async def test_age_limit_applies_within_one_segment(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path, max_age_s=3)) as wire:
        wire.put()
        await asyncio.sleep(2)
        wire.put()
        await until(lambda: wire.outbox.status.evicted == 1)
        wire.connect()
        await wire.until_delivered()
        assert (wire.announced_seqs(), wire.seqs()) == ([1], [2])


@pytest.mark.anyio
async def test_gap_is_announced_again_until_it_is_acknowledged_even_by_the_next_run(tmp_path: Path) -> None:
    gap = {"boot": BOOT, "first_seq": 7, "last_seq": 9, "count": 3, "cause": "max_bytes"}
    (tmp_path / "gaps.json").write_text(json.dumps([gap]))
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.connect()
        await until(lambda: wire.gaps)
        wire.disconnect()
        wire.connect()
        assert wire.announced() == [gap, gap]
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        later.connect()
        await later.until_delivered()
        assert later.announced() == [gap]
    assert files(tmp_path) == []


@pytest.mark.anyio
async def test_gap_that_the_broker_refuses_is_announced_again_at_the_next_connect(tmp_path: Path) -> None:
    gap = {"boot": BOOT, "first_seq": 7, "last_seq": 9, "count": 3, "cause": "max_bytes"}
    (tmp_path / "gaps.json").write_text(json.dumps([gap]))
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.connect()
        await until(lambda: wire.gaps)
        wire.acknowledge(wire.gaps[0][0], "Not authorized")
        await asyncio.sleep(0.05)
        assert wire.announced() == [gap]
        wire.disconnect()
        wire.connect()
        await wire.until_delivered()
        assert wire.announced() == [gap, gap]


@pytest.mark.anyio
async def test_results_that_the_broker_refuses_are_announced(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.connect()
        wire.put(2)
        wire.acknowledge(1, "Quota exceeded")
        wire.acknowledge_all()
        assert [(gap["first_seq"], gap["cause"]) for gap in wire.announced()] == [(1, "rejected")]


@pytest.mark.anyio
async def test_result_dropped_from_memory_while_it_is_written_stays_lost(tmp_path: Path) -> None:
    writes, may_write = threading.Event(), threading.Event()

    class Slow(Segments):
        def append(self, *arguments: Any) -> Any:
            writes.set()
            assert may_write.wait(10)
            return super().append(*arguments)

    async with running(WiredOutbox(tmp_path, segments=Slow, max_memory_bytes=5_000)) as wire:
        wire.put(5, size=998)
        await until(writes.is_set)
        wire.put(3, size=998)
        may_write.set()
        wire.connect()
        await wire.until_delivered()
        assert sorted(wire.seqs()) == [4, 5, 6, 7, 8]
        assert [(gap["first_seq"], gap["count"]) for gap in wire.announced()] == [(1, 3)]


@pytest.mark.anyio
async def test_result_of_an_earlier_run_dropped_from_disk_while_it_is_sent_is_announced(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(30)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, max_age_s=0.4)) as later:
        later.connect()
        await until(lambda: len(later.sent) == 16)
        await until(lambda: later.outbox.status.evicted == 14)
        later.disconnect()
        later.put()
        later.connect()
        await later.until_delivered()
        announced = later.announced_seqs()
        assert set(announced) == set(range(1, 31))
        assert later.seqs()[16:] == [1]


@pytest.mark.anyio
async def test_full_disk_drops_the_oldest_results_once_memory_is_half_full(tmp_path: Path) -> None:
    in_the_way: list[Path] = []

    class Full(Segments):
        def append(self, *arguments: Any) -> Any:
            if any(path.exists() for path in in_the_way):
                raise OSError(28, "No space left on device")
            return super().append(*arguments)

    async with running(WiredOutbox(tmp_path, segments=Full, max_bytes=1 << 16, max_memory_bytes=21_000)) as wire:
        wire.put(20, size=1000)
        await until(lambda: sum(block.count for block in blocks(tmp_path)) == 20)
        in_the_way.append(segments(tmp_path)[0])
        wire.put(5, size=1000)
        await until(lambda: wire.outbox.status.trouble)
        assert wire.outbox.status.evicted == 0
        wire.put(6, size=1000)
        await until(lambda: wire.outbox.status.trouble is None)
        wire.connect()
        await wire.until_delivered()
        (gap,) = wire.announced()
        assert (gap["first_seq"], gap["last_seq"], gap["cause"]) == (1, gap["count"], "disk")
        assert sorted(wire.seqs()) == list(range(gap["last_seq"] + 1, 32))


@pytest.mark.anyio
async def test_none_announces_an_earlier_kill_once(tmp_path: Path) -> None:
    (tmp_path / "running").write_text(BOOT)
    for causes in (["killed"], []):
        async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, durability="none")) as wire:
            wire.connect()
            await wire.until_delivered()
            assert [gap["cause"] for gap in wire.announced()] == causes

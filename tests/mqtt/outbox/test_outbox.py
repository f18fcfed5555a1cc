from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from agents.wired_outbox import BOOT, LATER_BOOT, QUICK, WINDOW, WiredOutbox, blocks, files, running, segments
from peers.subscriber import until

from agent.mqtt.outbox.storage import Pace

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.outbox.storage import Durability

_PATIENT = replace(QUICK, late_after_s=5.0)  # so that a slow disk makes no result late


@pytest.mark.anyio
async def test_outbox_writes_nothing_while_the_broker_acknowledges(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    async with running(WiredOutbox(folder)) as wire:
        await until((folder / "running").exists)
        wire.connect()
        for _ in range(50):
            wire.put()
            wire.acknowledge_all()
            await asyncio.sleep(0.002)
        assert wire.seqs() == list(range(1, 51))
        assert not any(late for _, _, late in wire.sent)
        assert files(folder) == ["running"]
    assert files(folder) == []


@pytest.mark.anyio
async def test_unacknowledged_results_are_saved_and_survive_a_kill(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path), close=False) as wire:
        wire.connect()
        wire.put(30)
        assert wire.seqs() == list(range(1, 21)), "the window"
        await until(lambda: sum(block.count for block in blocks(tmp_path)) == 30)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        later.put()
        later.connect()
        await later.until_delivered()
        assert sorted(later.seqs()) == sorted([1, *range(1, 31)])
        assert {entry.seq for _, entry, late in later.sent if late} == set(range(1, 31))
        assert later.announced()[0] == {
            "boot": BOOT, "first_seq": 31, "last_seq": None, "count": None, "cause": "killed"
        }  # fmt: skip
    assert files(tmp_path) == []


@pytest.mark.anyio
async def test_clean_stop_saves_everything_and_announces_no_gap(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(100)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        later.connect()
        await later.until_delivered()
        assert later.seqs() == list(range(1, 101))
        assert later.gaps == []


@pytest.mark.anyio
async def test_stop_saves_results_even_if_the_outbox_never_ran(tmp_path: Path) -> None:
    wire = WiredOutbox(tmp_path)
    wire.put(3)
    await wire.outbox.close()
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        later.connect()
        await later.until_delivered()
        assert later.seqs() == [1, 2, 3]


@pytest.mark.anyio
async def test_lost_connection_repeats_at_most_the_window_oldest_first(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
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
        assert wire.most_unacknowledged <= WINDOW


@pytest.mark.anyio
async def test_live_results_do_not_wait_for_the_backlog(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(2000)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, pace=Pace())) as later:
        later.connect()
        await until(lambda: len(later.sent) > 10)
        for _ in range(20):
            later.acknowledge_all()
            seen = len(later.sent)
            later.put()
            assert later.sent[seen][1].boot == LATER_BOOT, "immediately"
            assert not later.sent[seen][2]
            await asyncio.sleep(0.01)
        assert later.outbox.status.messages > 1500, "the backlog drains at a bounded rate"


@pytest.mark.anyio
async def test_backlog_leaves_room_in_the_window_for_live_results(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(100)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        later.connect()
        await until(lambda: len(later.sent) == 16)
        await asyncio.sleep(0.05)
        assert len(later.sent) == 16
        later.put(9)
        assert [entry.boot for _, entry, _ in later.sent[16:]] == [LATER_BOOT] * 4


@pytest.mark.anyio
async def test_group_sends_results_only_after_they_are_on_disk(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path, durability="group", pace=_PATIENT), close=False) as wire:
        wire.connect()
        wire.put(5)
        assert wire.sent == []
        await until(lambda: wire.sent)
        assert segments(tmp_path)
        assert wire.seqs() == [1, 2, 3, 4, 5]
        assert not any(late for _, _, late in wire.sent), "and no result is late"
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        later.connect()
        await later.until_delivered()
        assert later.seqs() == [1, 2, 3, 4, 5], "they were not acknowledged"


@pytest.mark.anyio
async def test_group_sends_each_result_once_during_continuous_writing(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path, durability="group", pace=_PATIENT)) as wire:
        wire.connect()
        for _ in range(100):
            wire.put()
            wire.acknowledge_all()
            await asyncio.sleep(0.003)
        await wire.until_delivered()
        assert wire.seqs() == list(range(1, 101))


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["spill", "group"])
async def test_slow_broker_gets_every_result_once(tmp_path: Path, durability: Durability) -> None:
    async with running(WiredOutbox(tmp_path, durability=durability)) as wire:
        wire.connect()
        for _ in range(60):
            wire.put(2)
            if wire.unacknowledged:
                wire.acknowledge(min(wire.unacknowledged))
            await asyncio.sleep(0.01)
        await wire.until_delivered()
        assert sorted(wire.seqs()) == list(range(1, 121))


@pytest.mark.anyio
async def test_none_writes_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    async with running(WiredOutbox(folder, durability="none")) as wire:
        wire.put(200)
        await asyncio.sleep(0.15)
        wire.connect()
        await wire.until_delivered()
        assert wire.seqs() == list(range(1, 201))
        assert not folder.exists()


@pytest.mark.anyio
async def test_none_delivers_the_results_of_an_earlier_run(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(10)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, durability="none")) as later:
        later.connect()
        await later.until_delivered()
        assert later.seqs() == list(range(1, 11))

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from agents.wired_outbox import BOOT, LATER_BOOT, QUICK, WiredOutbox, blocks, files, running, segments
from peers.subscriber import until

from agent.mqtt.outbox.segments import Segments

if TYPE_CHECKING:
    from pathlib import Path

_WRONG_GAP = b'[{"boot": "b", "first_seq": "3", "last_seq": 4, "count": 1, "cause": "memory"}]'


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"boot": 1}]', bytes(100), b'{"a": 1}', _WRONG_GAP])
async def test_damaged_list_of_gaps_does_not_stop_the_outbox(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gaps.json").write_bytes(content)
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(3)
        wire.connect()
        await wire.until_delivered()
        assert wire.seqs() == [1, 2, 3]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["running", "gaps.json"])
async def test_folder_in_the_place_of_a_file_is_set_aside(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "full").mkdir(parents=True)
    (tmp_path / f"{name}.damaged" / "full").mkdir(parents=True)
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(3)
        wire.connect()
        await wire.until_delivered()
        await until(lambda: files(tmp_path) == sorted([f"{name}.damaged", "running"]))
        assert wire.outbox.status.trouble is None


@pytest.mark.anyio
async def test_damage_found_at_run_time_is_announced_and_set_aside(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(10)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        await until(lambda: later.outbox.status.messages == 10)
        (path,) = segments(tmp_path)
        path.write_bytes(bytes(path.stat().st_size))
        later.connect()
        await later.until_delivered()
        assert later.announced() == [
            {"boot": BOOT, "first_seq": 1, "last_seq": 10, "count": 10, "cause": "damaged"}
        ]  # fmt: skip
        assert path.with_name(path.name + ".damaged").exists()


@pytest.mark.anyio
async def test_progress_through_the_backlog_survives_a_kill(tmp_path: Path) -> None:
    pace = replace(QUICK, note_cursor_every_s=0.0)
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(100)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, pace=pace), close=False) as killed:
        killed.connect()
        while len(killed.sent) < 60:
            await asyncio.sleep(0.001)
            killed.acknowledge_all()
        await until(lambda: max(block.cursor for block in blocks(tmp_path)).entry > 20)
    async with running(WiredOutbox(tmp_path, boot="01M8CCCCCCCCCCCCCCCCCCCCCC")) as last:
        last.connect()
        await last.until_delivered()
        assert min(last.seqs()) > 20
        assert max(last.seqs()) == 100


@pytest.mark.anyio
async def test_losses_of_an_earlier_run_are_announced_once_when_the_disk_fails_at_first(tmp_path: Path) -> None:
    (tmp_path / "running").write_text(BOOT)
    refusals = [OSError(28, "No space left on device")] * 3

    class Refusing(Segments):
        def begin(self) -> None:
            if refusals:
                raise refusals.pop()
            super().begin()

    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, segments=Refusing)) as wire:
        await until(lambda: wire.outbox.status.trouble)
        wire.connect()
        await wire.until_delivered()
        assert [gap["cause"] for gap in wire.announced()] == ["killed"]


@pytest.mark.anyio
async def test_damaged_segment_on_a_failing_disk_does_not_stop_the_outbox(tmp_path: Path) -> None:
    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(10)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT)) as later:
        await until(lambda: later.outbox.status.messages == 10)
        (path,) = segments(tmp_path)
        path.write_bytes(bytes(path.stat().st_size))
        in_the_way = tmp_path / ".gaps.json.new"
        in_the_way.mkdir()
        later.connect()
        await until(lambda: later.outbox.status.trouble)
        in_the_way.rmdir()
        later.put(3)
        await later.until_delivered()
        assert later.seqs() == [1, 2, 3]
        assert [gap["count"] for gap in later.announced()] == [10]


@pytest.mark.anyio
async def test_results_on_a_read_only_disk_are_delivered(tmp_path: Path) -> None:
    class ReadOnly(Segments):
        def begin(self) -> None:
            raise OSError(30, "Read-only file system")

        def append(self, *_: object) -> Any:
            raise OSError(30, "Read-only file system")

    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(30)
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, segments=ReadOnly)) as later:
        later.connect()
        later.put(2)
        await until(lambda: len(later.sent) >= 16)
        later.acknowledge_all()
        await later.until_delivered()
        assert len(later.sent) == 32
        assert "Read-only file system" in str(later.outbox.status.trouble)


@pytest.mark.anyio
async def test_damage_is_recorded_on_disk_before_it_is_repaired(tmp_path: Path) -> None:
    class Unrepairable(Segments):
        def repair(self) -> None:
            raise OSError(5, "Input/output error")

    async with running(WiredOutbox(tmp_path)) as wire:
        wire.put(10)
    (path,) = segments(tmp_path)
    path.write_bytes(b"no segment")
    async with running(WiredOutbox(tmp_path, boot=LATER_BOOT, segments=Unrepairable), close=False) as later:
        await until(lambda: later.outbox.status.trouble)
        assert [gap["cause"] for gap in json.loads((tmp_path / "gaps.json").read_text())] == ["damaged"]
        assert path.read_bytes() == b"no segment"

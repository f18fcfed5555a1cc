from __future__ import annotations

import dataclasses
import errno
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from collection.material import FRONT, ulid

from agent.cameras.collector import Collector
from agent.classification import Category, Classification, ModelIdentity, Spot, Timing
from agent.collection.folder import CollectionFolder
from agent.config.collect import CollectSection
from agent.config.view import ViewSection
from agent.errors import ImageDamagedError
from agent.inference.results import Results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from anyio.abc import TaskGroup

    from agent.listeners import Picture

_HOUR_S = 3600
_START_S = 1_800_000_000
_DOOR = Spot("front", "door")
_VIEWS = {spot: ViewSection(collect=CollectSection(per_day=24)) for spot in (FRONT, _DOOR)}  # an hour apart


def jpeg_of(max_side: int, *, quality: int = 85) -> bytes:
    return f"a JPEG of {max_side} pixels and quality {quality}".encode()


class Holder:
    """A picture that holds its frame."""

    def __call__(self, max_side: int, *, quality: int = 85) -> bytes:
        return jpeg_of(max_side, quality=quality)


class Shop:
    """A collector with its folder, and a clock that the test moves."""

    def __init__(self, folder: Path, tasks: TaskGroup) -> None:
        self.folder = CollectionFolder(folder / "collection", reserve_bytes=0)
        self.tasks = tasks
        self.now_s = _START_S
        self.restart()

    def restart(self, views: dict[Spot, ViewSection] = _VIEWS) -> None:
        clock = {"monotonic_s": lambda: self.now_s, "unix_s": lambda: self.now_s}
        self.collector = Collector(self.folder, views=lambda: views, tasks=self.tasks, **clock)
        self.collector.cameras_configured({})

    def look(self, score: float, spot: Spot = FRONT, picture: Picture = jpeg_of) -> None:
        """A frame with this best score; a category needs 0.5 to be in a Result."""
        best = Category(0, "robin", score)
        answer = Classification(ModelIdentity("m", 1, "0" * 64), (best,) if score >= 0.5 else (), Timing(0, 0, 0, 0))
        result = Results(device="d").record(answer, spot=spot, captured_ns=0)
        self.collector.looked(dataclasses.replace(result, id=ulid(self.now_s)), lambda: best, picture)

    async def offer(self, score: float, spot: Spot = FRONT, picture: Picture = jpeg_of) -> None:
        self.look(score, spot, picture)
        with anyio.fail_after(10):
            while self.collector.is_writing:  # noqa: ASYNC110  (nothing announces it)
                await anyio.sleep(0.001)

    @property
    def kept_s(self) -> list[float]:
        """When each kept frame was captured, since the start."""
        return sorted(frame.captured_s - _START_S for frame in self.folder.frames())


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with anyio.create_task_group() as tasks:
        yield Shop(tmp_path, tasks)


@pytest.mark.anyio
@pytest.mark.parametrize(("score", "is_kept"), [(0.39, False), (0.4, True), (0.5, True), (0.7, True), (0.71, False)])
async def test_frame_is_kept_if_its_best_score_is_between_the_bounds(
    shop: Shop, score: float, *, is_kept: bool
) -> None:
    await shop.offer(score)
    assert len(shop.kept_s) == is_kept
    for kept in shop.folder.frames():
        document = kept.document()
        assert document["best"] == {"index": 0, "label": "robin", "score": score}
        assert (document["source"], document["id"]) == ("front", ulid(_START_S))
        assert document["categories"] == ([document["best"]] if score >= 0.5 else [])


@pytest.mark.anyio
async def test_frames_are_kept_at_even_distances_for_each_view(shop: Shop) -> None:
    for _ in range(5):
        for spot in (FRONT, _DOOR, Spot("back")):
            await shop.offer(0.5, spot)
        shop.now_s += _HOUR_S // 2
    assert shop.kept_s == [0, 0, _HOUR_S, _HOUR_S, 2 * _HOUR_S, 2 * _HOUR_S]


@pytest.mark.anyio
async def test_no_more_frames_are_kept_when_the_agent_restarts_often(shop: Shop) -> None:
    for _ in range(7):
        await shop.offer(0.5)
        shop.restart()
        shop.now_s += _HOUR_S // 3
    assert shop.kept_s == [0, _HOUR_S, 2 * _HOUR_S]


@pytest.mark.anyio
async def test_frames_of_the_future_keep_nothing_back_after_a_clock_was_set(shop: Shop) -> None:
    await shop.offer(0.5)
    shop.now_s -= 1000 * _HOUR_S
    shop.restart()
    await shop.offer(0.5)
    assert shop.kept_s == [-1000 * _HOUR_S, 0]


@pytest.mark.anyio
async def test_picture_is_large_and_good_enough_to_train_with(shop: Shop) -> None:
    await shop.offer(0.5)
    (kept,) = shop.folder.frames()
    assert kept.jpeg.read_bytes() == b"a JPEG of 1280 pixels and quality 95"


@pytest.mark.anyio
async def test_view_without_frames_per_day_keeps_none(shop: Shop) -> None:
    shop.restart({FRONT: ViewSection(collect=CollectSection(per_day=0)), _DOOR: ViewSection()})
    await shop.offer(0.5)
    await shop.offer(0.5, _DOOR)
    assert shop.kept_s == []


@pytest.mark.anyio
async def test_full_disk_is_reported_once_and_collecting_goes_on_when_there_is_space(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    add = shop.folder.add

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shop.folder, "add", full)
    for _ in range(3):
        await shop.offer(0.5)
        shop.now_s += 61
    assert shop.collector.trouble == (
        f"Cannot collect frames in {shop.folder.folder}: No space left on device. Free some space, or give the "
        "agent's user write access. The agent retries every minute."
    )
    monkeypatch.setattr(shop.folder, "add", add)
    shop.now_s -= 30
    await shop.offer(0.5)
    assert shop.kept_s == []
    shop.now_s += 30
    await shop.offer(0.5)
    assert len(shop.kept_s) == 1
    assert not shop.collector.trouble
    messages = [message for message in caplog.messages if "collect" in message]
    assert [message[:24] for message in messages] == ["Cannot collect frames in", "Frames can be collected "]


@pytest.mark.anyio
async def test_folder_that_cannot_be_made_is_reported(shop: Shop) -> None:
    shop.folder.folder.write_text("a file")
    await shop.offer(0.5)
    assert shop.collector.trouble is not None
    shop.folder.folder.unlink()
    shop.now_s += 61
    await shop.offer(0.5)
    assert len(shop.kept_s) == 1
    assert not shop.collector.trouble


@pytest.mark.anyio
async def test_trouble_ends_when_no_view_collects_any_more(shop: Shop) -> None:
    views = dict(_VIEWS)
    shop.folder.folder.write_text("a file")
    shop.restart(views)
    await shop.offer(0.5)
    views[FRONT] = ViewSection()
    shop.collector.cameras_configured({})
    assert shop.collector.trouble
    views[_DOOR] = ViewSection()
    shop.collector.cameras_configured({})
    assert shop.collector.trouble is None


@pytest.mark.anyio
async def test_disk_that_hangs_holds_one_thread_and_delays_no_frame(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, threads = threading.Event(), []

    def hang(*_: Any, **__: Any) -> None:
        threads.append(threading.current_thread())
        hangs.wait(10)

    monkeypatch.setattr(shop.folder, "add", hang)
    held = weakref.WeakSet[Holder]()
    for spot in [FRONT, _DOOR] * 10:
        holder = Holder()
        held.add(holder)
        shop.look(0.5, spot, holder)
        await anyio.wait_all_tasks_blocked()
    del holder
    with anyio.fail_after(10):
        while not threads:  # noqa: ASYNC110  (nothing announces it)
            await anyio.sleep(0.001)
    assert len(held) == 0, "a camera has few frames"
    hangs.set()
    monkeypatch.undo()
    await shop.offer(0.1)
    assert len(threads) == 1


@pytest.mark.anyio
async def test_damaged_picture_is_not_kept(shop: Shop) -> None:
    def damaged(max_side: int, *, quality: int = 85) -> bytes:
        raise ImageDamagedError("It is damaged.")

    await shop.offer(0.5, FRONT, damaged)
    assert shop.kept_s == []
    assert not shop.collector.trouble
    await shop.offer(0.5)
    assert len(shop.kept_s) == 1

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sources.fake_feed import BLACK, UNPLUGGED, FakeFeed, FakeInput
from sources.observing import PATIENCE_S, Seen, soon, until

from agent.host.backoff import Backoff
from agent.image import Image
from agent.sources.capture import Capture
from agent.status import CameraStatus

if TYPE_CHECKING:
    from agent.sources.feed import Arrival

pytestmark = pytest.mark.anyio

ONLINE = CameraStatus("online")
GRAY = Image(np.full((4, 6), 7, np.uint8), "gray")


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed()


class Waits(Backoff):
    """Records how long each wait would be, and does not wait."""

    def __init__(self) -> None:
        super().__init__(fraction=lambda: 1.0)
        self.waits: list[float] = []

    def next_s(self) -> float:
        self.waits.append(super().next_s())
        return 0.0


async def test_capture_is_handed_only_the_frames_that_are_read(feed: FakeFeed) -> None:
    with closing(Capture(FakeInput(feed), on_status=lambda _: None)) as camera:
        await camera.read()
        given = feed.given
        await until(lambda: feed.given >= given + 20)
        assert feed.handed_over == 1
        await camera.read()
        assert feed.handed_over == 2


async def test_frame_keeps_the_form_in_which_the_camera_sent_it(feed: FakeFeed) -> None:
    feed.free.clear()
    with closing(Capture(FakeInput(feed), on_status=lambda _: None)) as camera:
        reading = asyncio.create_task(camera.read())
        await until(feed.wanted.is_set)
        feed.gives = [GRAY, b"a JPEG"]
        feed.free.set()
        first = await reading
        assert first is not None
        assert first.image() is GRAY


async def test_camera_is_lost_and_opened_again_when_it_falls_silent(feed: FakeFeed) -> None:
    seen = Seen()
    with closing(Capture(FakeInput(feed), on_status=seen, stall_s=0.1, backoff=soon())) as camera:
        await camera.read()
        feed.free.clear()
        lost = await seen.until("online", "lost")
        assert lost.reason == "silent"
        feed.free.set()
        await camera.read()
        await seen.until("online", "lost", "online")
        assert feed.opened >= 2


class SlowFeed(FakeFeed):
    """Its first frame comes at once, each other 0.3 s later."""

    due_s = 0.0

    def read(self, timeout_s: float) -> Arrival | None:
        wait_s = self.due_s - time.monotonic()
        if self.given and wait_s > 0:
            time.sleep(min(timeout_s, wait_s))
            return None
        self.due_s = time.monotonic() + 0.3
        return super().read(timeout_s)

    def close(self) -> None:
        self.given = 0


class SlowToOpen(FakeFeed):
    """Its first frame comes 0.3 s after it was opened."""

    due_s = 0.0

    def read(self, timeout_s: float) -> Arrival | None:
        self.due_s = self.due_s or time.monotonic() + 0.3
        if (wait_s := self.due_s - time.monotonic()) > 0:
            time.sleep(min(timeout_s, wait_s))
            return None
        return super().read(timeout_s)

    def close(self) -> None:
        self.due_s = 0.0


async def test_slow_camera_stays_open_once_its_period_is_known() -> None:
    slow = SlowFeed()
    with closing(Capture(FakeInput(slow), on_status=lambda _: None, stall_s=0.1, backoff=soon())) as camera:
        await until(lambda: slow.given == 4)
        assert await camera.read() is not None


async def test_camera_may_take_longer_to_open_than_between_two_frames(feed: FakeFeed) -> None:
    seen = Seen()
    feed.free.clear()
    with closing(Capture(FakeInput(feed), on_status=seen, stall_s=0.01, opening_s=3600)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0.1)
        assert seen.statuses == []
        feed.free.set()
        assert await reading is not None


async def test_camera_that_does_not_open_in_time_is_lost(feed: FakeFeed) -> None:
    seen = Seen()
    feed.free.clear()
    with closing(Capture(FakeInput(feed), on_status=seen, stall_s=0.1, opening_s=0.01)):
        assert (await seen.until("lost")).reason == "not open yet"


async def test_camera_that_opens_slowly_gets_more_time_in_each_attempt() -> None:
    slow, seen = SlowToOpen(), Seen()
    with closing(Capture(FakeInput(slow), on_status=seen, opening_s=0.05, backoff=soon())) as camera:
        assert await camera.read() is not None
        assert slow.opened > 1
    assert [(status.state, status.reason) for status in seen.statuses] == [("lost", "not open yet"), ("online", None)]


async def test_camera_is_frozen_while_its_frames_are_identical(feed: FakeFeed) -> None:
    seen = Seen()
    with closing(Capture(FakeInput(feed), on_status=seen, frozen_after_s=0.05)) as camera:
        while len(seen.statuses) < 2:
            assert await camera.read() is not None
        assert "fake has sent the same picture for" in str((await seen.until("online", "frozen")).reason)
        feed.gives = [GRAY]
        while len(seen.statuses) < 3:
            assert await camera.read() is not None
        await seen.until("online", "frozen", "online")


async def test_camera_is_never_frozen_when_that_is_switched_off(feed: FakeFeed) -> None:
    seen = Seen()
    with closing(Capture(FakeInput(feed), on_status=seen, frozen_after_s=0)) as camera:
        for _ in range(20):
            await camera.read()
        assert seen.statuses == [ONLINE]


async def test_waits_grow_when_each_connection_ends_after_a_frame(feed: FakeFeed) -> None:
    feed.gives = [BLACK, UNPLUGGED] * 4
    waiting = Waits()
    with closing(Capture(FakeInput(feed), on_status=lambda _: None, backoff=waiting)):
        await until(lambda: len(waiting.waits) == 4)
    assert waiting.waits == [0.5, 1.0, 2.0, 4.0]


async def test_waits_start_again_when_a_connection_has_lasted(feed: FakeFeed) -> None:
    feed.gives = [BLACK, UNPLUGGED] * 3
    waiting = Waits()
    with closing(Capture(FakeInput(feed), on_status=lambda _: None, backoff=waiting, proven_s=0.0)):
        await until(lambda: len(waiting.waits) == 3)
    assert waiting.waits == [0.5, 0.5, 0.5]


async def test_read_raises_the_unexpected_error_of_the_thread(feed: FakeFeed) -> None:
    feed.free.clear()
    feed.gives = [ZeroDivisionError("a bug")]
    with closing(Capture(FakeInput(feed), on_status=lambda _: None)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0)
        feed.free.set()
        with pytest.raises(ZeroDivisionError):
            await reading
        with pytest.raises(ZeroDivisionError):
            await camera.read()
        assert feed.closed.is_set()


async def test_close_wakes_the_reader_and_releases_the_camera(feed: FakeFeed) -> None:
    feed.free.clear()
    with closing(Capture(FakeInput(feed), on_status=lambda _: None)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0)
        camera.close()
        camera.close()
        assert await reading is None
        assert await camera.read() is None
        await camera.wait_closed()
        assert feed.closed.is_set()


async def test_close_ends_the_wait_for_the_next_attempt(feed: FakeFeed) -> None:
    seen = Seen()
    feed.gives = [UNPLUGGED]
    with closing(Capture(FakeInput(feed), on_status=seen, backoff=Backoff(first_s=3600, longest_s=3600))):
        await seen.until("lost")


async def test_capture_is_readable_after_a_canceled_read(feed: FakeFeed) -> None:
    feed.free.clear()
    with closing(Capture(FakeInput(feed), on_status=lambda _: None)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0)
        reading.cancel()
        feed.free.set()
        assert await camera.read() is not None


def test_thread_ends_when_the_loop_ends_without_close(feed: FakeFeed) -> None:
    async def forgotten() -> None:
        feed.free.clear()
        Capture(FakeInput(feed), on_status=lambda _: None)

    asyncio.run(forgotten())
    assert feed.closed.wait(PATIENCE_S)

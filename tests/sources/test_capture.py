from __future__ import annotations

import asyncio
from contextlib import closing

import cv2
import numpy as np
import pytest
from sources.fake_capture import FakeCapture, FakeInput
from sources.observing import PATIENCE_S, Seen, soon, until

from agent.host.backoff import Backoff
from agent.sources.capture import Capture
from agent.status import CameraStatus

pytestmark = pytest.mark.anyio

ONLINE = CameraStatus("online")


class Waits(Backoff):
    """Records how long each wait would be, and does not wait."""

    def __init__(self) -> None:
        super().__init__(fraction=lambda: 1.0)
        self.waits: list[float] = []

    def next_s(self) -> float:
        self.waits.append(super().next_s())
        return 0.0


async def test_capture_decodes_only_the_frames_that_are_read(capture: FakeCapture) -> None:
    with closing(Capture(FakeInput(capture), on_status=lambda _: None)) as camera:
        await camera.read()
        grabbed = capture.grabbed
        await until(lambda: capture.grabbed >= grabbed + 20)
        assert capture.retrieved == 1
        await camera.read()
        assert capture.retrieved == 2


async def test_capture_skips_a_damaged_frame(capture: FakeCapture) -> None:
    seen = Seen()
    capture.retrieves = [None, cv2.error("empty buffer"), np.full((4, 6), 7, np.uint8)]
    with closing(Capture(FakeInput(capture), on_status=seen)) as camera:
        frame = await camera.read()
        assert frame is not None
        assert frame.image.color == "gray"
        assert seen.statuses == [ONLINE]


async def test_capture_is_frozen_when_no_frame_decodes(capture: FakeCapture) -> None:
    seen = Seen()
    capture.free.clear()
    capture.retrieves = [None] * 100_000
    with closing(Capture(FakeInput(capture), on_status=seen, stall_s=0.1)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0)  # now the reader is waiting for the first frame
        capture.free.set()
        await seen.until("frozen")
    assert await reading is None


async def test_capture_is_lost_when_opencv_raises_while_grabbing(capture: FakeCapture) -> None:
    seen = Seen()
    capture.grabs = [cv2.error("driver trouble")]
    with closing(Capture(FakeInput(capture), on_status=seen, backoff=soon())) as camera:
        assert await camera.read() is not None
        assert [status.state for status in seen.statuses] == ["lost", "online"]


async def test_waits_grow_when_each_connection_ends_after_a_frame(capture: FakeCapture) -> None:
    capture.grabs = [True, False] * 4
    waiting = Waits()
    with closing(Capture(FakeInput(capture), on_status=lambda _: None, backoff=waiting)):
        await until(lambda: len(waiting.waits) == 4)
    assert waiting.waits == [0.5, 1.0, 2.0, 4.0]


async def test_waits_start_again_when_a_connection_has_lasted(capture: FakeCapture) -> None:
    capture.grabs = [True, False] * 3
    waiting = Waits()
    with closing(Capture(FakeInput(capture), on_status=lambda _: None, backoff=waiting, proven_s=0.0)):
        await until(lambda: len(waiting.waits) == 3)
    assert waiting.waits == [0.5, 0.5, 0.5]


async def test_read_raises_the_unexpected_error_of_the_thread(capture: FakeCapture) -> None:
    capture.free.clear()
    capture.grabs = [ZeroDivisionError("a bug")]
    with closing(Capture(FakeInput(capture), on_status=lambda _: None)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0)
        capture.free.set()
        with pytest.raises(ZeroDivisionError):
            await reading
        with pytest.raises(ZeroDivisionError):
            await camera.read()
        assert capture.released.is_set()


async def test_close_wakes_the_reader_while_the_driver_blocks(capture: FakeCapture) -> None:
    capture.free.clear()
    with closing(Capture(FakeInput(capture), on_status=lambda _: None)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0)
        camera.close()
        camera.close()
        assert await reading is None
        assert await camera.read() is None
        assert not capture.released.is_set()
        capture.free.set()
        await until(capture.released.is_set)


async def test_close_ends_the_wait_for_the_next_attempt(capture: FakeCapture) -> None:
    seen = Seen()
    capture.grabs = [False]
    with closing(Capture(FakeInput(capture), on_status=seen, backoff=Backoff(first_s=3600, longest_s=3600))):
        await seen.until("lost")


async def test_capture_is_readable_after_a_canceled_read(capture: FakeCapture) -> None:
    capture.free.clear()
    with closing(Capture(FakeInput(capture), on_status=lambda _: None)) as camera:
        reading = asyncio.create_task(camera.read())
        await asyncio.sleep(0)
        reading.cancel()
        capture.free.set()
        assert await camera.read() is not None


def test_thread_ends_when_the_loop_ends_without_close(capture: FakeCapture) -> None:
    async def forgotten() -> None:
        capture.free.clear()
        Capture(FakeInput(capture), on_status=lambda _: None)

    asyncio.run(forgotten())
    capture.free.set()
    assert capture.released.wait(PATIENCE_S)

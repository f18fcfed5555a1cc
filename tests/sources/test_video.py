from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from sources.footage import brightness, levels, write_video
from sources.observing import Seen, soon

from agent.sources.recording import Recording
from agent.sources.video import VideoFile
from agent.status import CameraStatus

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

ONLINE, ENDED = CameraStatus("online"), CameraStatus("ended")


async def test_video_gives_every_frame_and_ends(tmp_path: Path) -> None:
    seen: list[CameraStatus] = []
    source = Recording(VideoFile(write_video(tmp_path / "v.avi", frames=10)), loop=False, on_status=seen.append)
    assert await levels(source, 10) == pytest.approx([n * 20 for n in range(10)], abs=2)
    assert await source.read() is None
    assert await source.read() is None
    assert seen == [ONLINE, ENDED]
    source.close()


async def test_video_starts_again_at_its_end_when_looped(tmp_path: Path) -> None:
    seen: list[CameraStatus] = []
    source = Recording(VideoFile(write_video(tmp_path / "v.avi", frames=3)), loop=True, on_status=seen.append)
    assert await levels(source, 7) == pytest.approx([0, 20, 40, 0, 20, 40, 0], abs=2)
    assert seen == [ONLINE]
    source.close()


async def test_video_is_never_faster_than_real_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=10, fps=50)
    source = Recording(VideoFile(path), loop=False, on_status=lambda _: None)
    frames = [await source.read() for _ in range(10)]
    source.close()
    assert frames[0] is not None
    for n, frame in enumerate(frames):
        assert frame is not None
        assert frame.captured_ns - frames[0].captured_ns >= n * 20_000_000 - 5_000_000


async def test_video_does_not_send_missed_frames_at_once_after_a_slow_reader(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=8, fps=20)
    source = Recording(VideoFile(path), loop=False, on_status=lambda _: None)
    first = brightness(await source.read())
    await asyncio.sleep(0.2)  # the reader is three frames late
    begun_s = time.monotonic()
    assert [first, *(await levels(source, 4))] == pytest.approx([0, 20, 40, 60, 80], abs=2)
    assert time.monotonic() - begun_s >= 3 * 0.05 - 0.01
    source.close()


async def test_video_is_lost_until_its_file_appears(tmp_path: Path) -> None:
    seen, path = Seen(), tmp_path / "v.avi"
    source = Recording(VideoFile(path), loop=False, on_status=seen, backoff=soon())
    reading = asyncio.create_task(source.read())
    lost = CameraStatus("lost", f"{path} does not exist. Put it there, or correct the camera's source.")
    assert await seen.until("lost") == lost
    write_video(tmp_path / "made.avi", frames=2).rename(path)
    assert brightness(await reading) <= 2
    assert seen.statuses == [lost, ONLINE]
    source.close()


async def test_video_is_lost_until_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    seen, path = Seen(), tmp_path / "v.avi"
    path.write_bytes(b"RIFF but not a video")
    source = Recording(VideoFile(path), loop=True, on_status=seen, backoff=soon())
    reading = asyncio.create_task(source.read())
    assert "cannot be decoded as a video" in str((await seen.until("lost")).reason)
    write_video(tmp_path / "good.avi", frames=1).rename(path)
    await reading
    assert [status.state for status in seen.statuses] == ["lost", "online"]
    source.close()


async def test_video_is_readable_after_a_canceled_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=5)
    source = Recording(VideoFile(path), loop=False, on_status=lambda _: None)
    reading = asyncio.create_task(source.read())
    await asyncio.sleep(0)
    reading.cancel()
    assert brightness(await source.read()) <= 22
    source.close()

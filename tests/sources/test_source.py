from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sources.footage import levels, write_image, write_video
from sources.observing import Seen

from agent.sources.source import is_file_source, open_source

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("9", "/dev/video9 does not exist"),
        ("/dev/none", "/dev/none does not exist"),
        ("rtsp://camera.invalid/x", "rtsp://camera.invalid/x: the host name cannot be resolved"),
        ("http://camera.invalid/x", "http://camera.invalid/x: the host name cannot be resolved"),
    ],
)
async def test_open_source_opens_a_live_camera_for_a_device_or_a_url(source: str, reason: str) -> None:
    seen = Seen()
    camera = open_source(source, loop=False, on_status=seen)
    reading = asyncio.create_task(camera.read())
    assert str((await seen.until("lost")).reason).startswith(reason)
    assert not camera.has_own_pace
    camera.close()
    assert await reading is None
    assert await camera.read() is None
    await camera.wait_closed()


async def test_open_source_plays_a_video_at_its_own_pace(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "v.avi", frames=2)), loop=True, on_status=lambda _: None)
    assert source.has_own_pace
    assert await levels(source, 3) == pytest.approx([0, 20, 0], abs=2)
    source.close()
    await source.wait_closed()


async def test_open_source_reads_the_images_of_a_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 50)
    source = open_source(str(tmp_path), loop=False, on_status=lambda _: None)
    assert not source.has_own_pace
    assert await levels(source, 1) == [50]
    assert await source.read() is None
    source.close()
    await source.wait_closed()


def test_is_file_source_excludes_devices_and_urls() -> None:
    assert not any(map(is_file_source, ("0", "/dev/video0", "/dev/v4l/by-id/usb-cam", "rtsp://host/stream")))
    assert all(map(is_file_source, ("video.mp4", "/srv/images", "~/images")))

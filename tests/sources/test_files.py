from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from agent.sources.backoff import Backoff
from agent.sources.files import ImageFolder, VideoFile
from agent.status import CameraStatus

if TYPE_CHECKING:
    from pathlib import Path

    from agent.image import Frame

ONLINE, ENDED = CameraStatus("online"), CameraStatus("ended")
FAST_FPS = 200.0


class Seen:
    """Every status reported, in order."""

    def __init__(self) -> None:
        self.statuses: list[CameraStatus] = []
        self._changed = asyncio.Event()

    def __call__(self, status: CameraStatus) -> None:
        self.statuses.append(status)
        self._changed.set()

    async def first(self) -> CameraStatus:
        await asyncio.wait_for(self._changed.wait(), 10)
        return self.statuses[0]


def soon() -> Backoff:
    return Backoff(first_s=0.01, longest_s=0.02)


def brightness(frame: Frame | None) -> int:
    assert frame is not None
    return round(float(frame.image.pixels.mean()))


def write_video(path: Path, *, frames: int, fps: float = FAST_FPS) -> Path:
    """Frame n is n * 20 bright."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert video.isOpened()
    for n in range(frames):
        video.write(np.full((48, 64, 3), n * 20, np.uint8))
    video.release()
    return path


def write_image(path: Path, level: int) -> None:
    assert cv2.imwrite(str(path), np.full((48, 64, 3), level, np.uint8))


async def levels(source: VideoFile | ImageFolder, count: int) -> list[int]:
    return [brightness(await source.read()) for _ in range(count)]


async def until_thread_is_gone(source: VideoFile | ImageFolder) -> None:
    await asyncio.to_thread(source._worker.shutdown, wait=True)


def test_video_gives_every_frame_and_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[CameraStatus] = []
        source = VideoFile(write_video(tmp_path / "v.avi", frames=10), loop=False, on_status=seen.append)
        assert await levels(source, 10) == pytest.approx([n * 20 for n in range(10)], abs=2)
        assert await source.read() is None
        assert await source.read() is None
        assert seen == [ONLINE, ENDED]
        source.close()

    asyncio.run(scenario())


def test_video_begins_again_when_looped(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[CameraStatus] = []
        source = VideoFile(write_video(tmp_path / "v.avi", frames=3), loop=True, on_status=seen.append)
        assert await levels(source, 7) == pytest.approx([0, 20, 40, 0, 20, 40, 0], abs=2)
        assert seen == [ONLINE]
        source.close()

    asyncio.run(scenario())


def test_video_is_never_faster_than_real_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write_video(tmp_path / "v.avi", frames=10, fps=50)
        source = VideoFile(path, loop=False, on_status=lambda _: None)
        frames = [await source.read() for _ in range(10)]
        source.close()
        assert frames[0] is not None
        for n, frame in enumerate(frames):
            assert frame is not None
            assert frame.captured_ns - frames[0].captured_ns >= n * 20_000_000 - 5_000_000

    asyncio.run(scenario())


def test_slow_reader_gets_the_next_frame_without_a_burst_afterwards(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write_video(tmp_path / "v.avi", frames=8, fps=20)
        source = VideoFile(path, loop=False, on_status=lambda _: None)
        first = brightness(await source.read())
        source._due_s -= 0.2  # as if the reader had been away for four frames
        begun_s = time.monotonic()
        assert [first, *(await levels(source, 4))] == pytest.approx([0, 20, 40, 60, 80], abs=2)
        assert time.monotonic() - begun_s >= 3 * 0.05 - 0.01
        source.close()

    asyncio.run(scenario())


def test_timetable_does_not_drift_while_the_reader_keeps_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = VideoFile(tmp_path / "v.avi", loop=False, on_status=lambda _: None)
        begun_s = time.monotonic()
        leads_s = [source._lead_s(10.0) for _ in range(4)]
        assert leads_s == pytest.approx([0, 10, 20, 30], abs=time.monotonic() - begun_s + 0.001)
        source.close()

    asyncio.run(scenario())


def test_video_that_is_missing_is_lost_until_it_appears(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen, path = Seen(), tmp_path / "v.avi"
        source = VideoFile(path, loop=False, on_status=seen, backoff=soon())
        reading = asyncio.create_task(source.read())
        lost = CameraStatus("lost", f"{path} is not found: put it there, or correct the camera's source.")
        assert await seen.first() == lost
        write_video(tmp_path / "made.avi", frames=2).rename(path)
        assert brightness(await reading) <= 2
        assert seen.statuses == [lost, ONLINE]
        source.close()

    asyncio.run(scenario())


def test_video_that_does_not_decode_is_lost_until_it_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen, path = Seen(), tmp_path / "v.avi"
        path.write_bytes(b"RIFF but no video")
        source = VideoFile(path, loop=True, on_status=seen, backoff=soon())
        reading = asyncio.create_task(source.read())
        assert "does not decode as a video" in str((await seen.first()).reason)
        write_video(tmp_path / "good.avi", frames=1).rename(path)
        await reading
        assert [status.state for status in seen.statuses] == ["lost", "online"]
        source.close()

    asyncio.run(scenario())


def test_close_wakes_a_reader_who_waits_for_a_frame_to_be_due(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write_video(tmp_path / "v.avi", frames=3, fps=0.01)
        source = VideoFile(path, loop=True, on_status=lambda _: None)
        await source.read()
        reading = asyncio.create_task(source.read())
        await asyncio.wait({reading}, timeout=0.05)
        assert not reading.done()
        source.close()
        source.close()
        assert await reading is None
        assert await source.read() is None
        await until_thread_is_gone(source)

    asyncio.run(scenario())


def test_close_wakes_a_reader_who_waits_for_a_missing_folder(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen, hours = Seen(), Backoff(first_s=3600, longest_s=3600)
        source = ImageFolder(tmp_path / "none", loop=True, on_status=seen, backoff=hours)
        reading = asyncio.create_task(source.read())
        await seen.first()
        source.close()
        assert await asyncio.wait_for(reading, 5) is None

    asyncio.run(scenario())


def test_cancelled_read_leaves_the_video_readable(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write_video(tmp_path / "v.avi", frames=5)
        source = VideoFile(path, loop=False, on_status=lambda _: None)
        reading = asyncio.create_task(source.read())
        await asyncio.sleep(0)
        reading.cancel()
        assert brightness(await source.read()) <= 22
        source.close()

    asyncio.run(scenario())


def test_folder_gives_its_images_by_name_and_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[CameraStatus] = []
        for level, name in enumerate(["a.bmp", "b.JPG", "c.jpeg", "d.png", "e.webp"]):
            write_image(tmp_path / name, level * 40)
        write_image(tmp_path / ".hidden.png", 255)
        (tmp_path / "notes.txt").write_text("not an image")
        source = ImageFolder(tmp_path, loop=False, on_status=seen.append)
        assert await levels(source, 5) == pytest.approx([0, 40, 80, 120, 160], abs=2)
        assert await source.read() is None
        assert seen == [ONLINE, ENDED]
        source.close()

    asyncio.run(scenario())


def test_folder_is_listed_anew_each_time_around(tmp_path: Path) -> None:
    async def scenario() -> None:
        write_image(tmp_path / "b.png", 50)
        source = ImageFolder(tmp_path, loop=True, on_status=lambda _: None)
        assert await levels(source, 2) == [50, 50]
        write_image(tmp_path / "a.png", 10)
        assert await levels(source, 3) == [10, 50, 10]
        source.close()

    asyncio.run(scenario())


def test_damaged_image_is_skipped_and_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        write_image(tmp_path / "a.png", 10)
        (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff but no more")
        (tmp_path / "c.png").mkdir()
        source = ImageFolder(tmp_path, loop=True, on_status=lambda _: None)
        assert await levels(source, 3) == [10, 10, 10]
        source.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
        f"{tmp_path / 'b.jpg'} is skipped",
        f"{tmp_path / 'c.png'} is skipped",
    ]


def test_empty_folder_is_lost_until_an_image_appears(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen, folder = Seen(), tmp_path / "images"
        folder.mkdir()
        source = ImageFolder(folder, loop=False, on_status=seen, backoff=soon())
        reading = asyncio.create_task(source.read())
        assert "holds no image that can be read" in str((await seen.first()).reason)
        write_image(tmp_path / "a.png", 30)
        (tmp_path / "a.png").rename(folder / "a.png")
        assert brightness(await reading) == 30
        assert [status.state for status in seen.statuses] == ["lost", "online"]
        source.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (VideoFile, "is not a file: correct the camera's source."),
        (ImageFolder, "is not a folder: correct the camera's source."),
    ],
)
def test_file_for_a_folder_or_the_reverse_is_lost(
    tmp_path: Path, kind: type[VideoFile | ImageFolder], sentence: str
) -> None:
    path = tmp_path / "source"
    if kind is VideoFile:
        path.mkdir()
    else:
        path.write_bytes(b"")
    assert first_reason(path, kind).endswith(sentence)


def test_unreadable_file_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.avi", frames=1)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who may run this, may read everything
    assert "may not be read by this user" in first_reason(path, VideoFile)


def first_reason(path: Path, kind: type[VideoFile | ImageFolder]) -> str:
    async def scenario() -> str:
        seen = Seen()
        source = kind(path, loop=False, on_status=seen)
        reading = asyncio.create_task(source.read())
        lost = await seen.first()
        source.close()
        assert await reading is None
        return str(lost.reason)

    return asyncio.run(scenario())

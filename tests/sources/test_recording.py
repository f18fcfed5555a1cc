from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sources.footage import write_video
from sources.observing import PATIENCE_S, Seen

from agent.host.backoff import Backoff
from agent.image import Image
from agent.sources import recording
from agent.sources.images import ImageFolder
from agent.sources.recording import Recording, Shot, Timetable
from agent.sources.video import VideoFile
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.sources.recording import Footage

pytestmark = pytest.mark.anyio

ONLINE, ENDED = CameraStatus("online"), CameraStatus("ended")


def test_timetable_does_not_drift_while_the_reader_keeps_up() -> None:
    timetable, begun_s = Timetable(), time.monotonic()
    leads_s = [timetable.lead_s(10.0) for _ in range(4)]
    assert leads_s == pytest.approx([0, 10, 20, 30], abs=time.monotonic() - begun_s + 0.001)


async def test_close_wakes_the_reader_before_a_frame_is_due(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=3, fps=0.01)
    source = Recording(VideoFile(path), loop=True, on_status=lambda _: None)
    await source.read()
    reading = asyncio.create_task(source.read())
    await asyncio.wait({reading}, timeout=0.05)
    assert not reading.done()
    source.close()
    source.close()
    assert await reading is None
    assert await source.read() is None
    await source.wait_closed()


async def test_close_during_a_decoding_ends_the_reader(tmp_path: Path) -> None:
    source = Recording(
        VideoFile(write_video(tmp_path / "v.avi", frames=3, fps=10)), loop=True, on_status=lambda _: None
    )
    reading = asyncio.create_task(source.read())
    await asyncio.sleep(0)  # the thread decodes now
    source.close()
    assert await asyncio.wait_for(reading, 10) is None


async def test_close_wakes_the_reader_while_the_folder_is_missing(tmp_path: Path) -> None:
    seen, hours = Seen(), Backoff(first_s=3600, longest_s=3600)
    source = Recording(ImageFolder(tmp_path / "none"), loop=True, on_status=seen, backoff=hours)
    reading = asyncio.create_task(source.read())
    await seen.until("lost")
    source.close()
    assert await asyncio.wait_for(reading, 5) is None


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (VideoFile, "is not a file. Correct the camera's source."),
        (ImageFolder, "is not a folder. Correct the camera's source."),
    ],
)
async def test_recording_is_lost_when_its_file_is_a_folder_or_the_reverse(
    tmp_path: Path, kind: type[VideoFile | ImageFolder], sentence: str
) -> None:
    path = tmp_path / "source"
    if kind is VideoFile:
        path.mkdir()
    else:
        path.write_bytes(b"")
    assert (await first_reason(kind(path))).endswith(sentence)


async def test_recording_is_lost_when_this_user_cannot_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.avi", frames=1)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read every file, and the test may run as root
    assert "This user cannot read" in await first_reason(VideoFile(path))


async def first_reason(footage: Footage) -> str:
    seen = Seen()
    source = Recording(footage, loop=False, on_status=seen)
    reading = asyncio.create_task(source.read())
    lost = await seen.until("lost")
    source.close()
    assert await reading is None
    return str(lost.reason)


class Hanging:
    """Footage on a network drive that answers once `free` is set."""

    name = "film.mp4"
    has_own_pace = True

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.free = threading.Event()

    def open(self) -> Iterator[Shot]:
        self.opened.set()
        self.free.wait(PATIENCE_S)
        yield Shot(Image(np.zeros((4, 6, 3), np.uint8)), 0.01)


async def test_recording_is_lost_while_its_file_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_PATIENCE_S", 0.05)
    footage, seen = Hanging(), Seen()
    with closing(Recording(footage, loop=False, on_status=seen)) as source:
        reading = asyncio.create_task(source.read())
        assert str((await seen.until("lost")).reason).startswith("film.mp4 does not answer.")
        footage.free.set()
        assert await reading is not None
        await seen.until("lost", "online")


async def test_close_wakes_the_reader_while_a_shot_is_decoded() -> None:
    footage = Hanging()
    source = Recording(footage, loop=False, on_status=lambda _: None)
    reading = asyncio.create_task(source.read())
    assert await asyncio.to_thread(footage.opened.wait, PATIENCE_S)
    source.close()
    assert await reading is None
    footage.free.set()
    await source.wait_closed()

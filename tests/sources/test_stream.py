from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from peers.rtsp_server import RtspServer
from sources.observing import PATIENCE_S, Seen, soon, until

from agent.errors import SourceError
from agent.sources.address import Address
from agent.sources.capture import Capture
from agent.sources.stream import Stream, open_with_ffmpeg
from agent.status import CameraStatus

if TYPE_CHECKING:
    from peers.mjpeg_server import MjpegServer

    from agent.frame import Frame

pytestmark = pytest.mark.anyio

ONLINE = CameraStatus("online")
REPOSITORY = Path(__file__).parents[2]
PROGRAM_THAT_READS_ONE_FRAME = """
import asyncio, sys
from agent.sources.address import Address
from agent.sources.capture import Capture
from agent.sources.stream import Stream

async def main():
    camera = Capture(Stream(Address.parse(sys.argv[1]), timeout_s=0.5), on_status=lambda _: None)
    await camera.read()
    camera.close()

asyncio.run(main())
"""


def blue(frame: Frame | None) -> int:
    assert frame is not None
    return round(float(frame.image().pixels[..., 0].mean()))


async def test_frame_has_bgr_pixels_and_the_time_of_its_capture(mjpeg: MjpegServer) -> None:
    before_ns, seen = time.monotonic_ns(), Seen()
    with closing(Capture(Stream(Address.parse(mjpeg.url)), on_status=seen)) as camera:
        frame = await camera.read()
        assert frame is not None
        assert before_ns < frame.captured_ns <= time.monotonic_ns()
        assert frame.image().color == "bgr"
        assert frame.image().pixels.shape == (48, 64, 3)
        assert not frame.image().pixels.flags["W"]
        assert frame.image().pixels[0, 0, 1:].tolist() == pytest.approx([0, 200], abs=4)
        assert seen.statuses == [ONLINE]
        assert seen.threads == {threading.current_thread()}


async def test_read_gives_the_newest_frame_when_several_were_sent_meanwhile(mjpeg: MjpegServer) -> None:
    with closing(Capture(Stream(Address.parse(mjpeg.url)), on_status=lambda _: None)) as camera:
        first = blue(await camera.read())
        sent = first + 40
        await until(lambda: mjpeg.sent >= sent)
        # On a busy machine the camera's process may be a few frames behind, but it has no queue of 40.
        assert max([blue(await camera.read()) for _ in range(5)]) >= sent - 4


async def test_stream_is_lost_and_reconnected_when_its_server_restarts(mjpeg: MjpegServer) -> None:
    seen = Seen()
    with closing(Capture(Stream(Address.parse(mjpeg.url)), on_status=seen, backoff=soon())) as camera:
        await camera.read()
        await asyncio.to_thread(mjpeg.stop)
        reading = asyncio.create_task(camera.read())
        await seen.until("online", "lost")
        mjpeg.start()
        assert await reading is not None
        while seen.statuses[-1] != ONLINE:  # the last frame may have waited in the process
            assert await camera.read() is not None


async def test_stream_connects_later_when_its_server_is_off_at_the_start(
    mjpeg: MjpegServer, capfd: pytest.CaptureFixture[str]
) -> None:
    mjpeg.stop()
    seen = Seen()
    with closing(Capture(Stream(Address.parse(mjpeg.url)), on_status=seen, backoff=soon())) as camera:
        reason = str((await seen.until("lost")).reason)
        where = Address.parse(mjpeg.url)
        assert reason == f"{where} does not answer (Connection refused). Check its power, network and port."
        mjpeg.start()
        assert await camera.read() is not None
        await seen.until("lost", "online")
    assert "secret" not in "".join(capfd.readouterr())


async def test_stream_is_lost_and_opened_again_when_it_stays_silent(mjpeg: MjpegServer) -> None:
    seen = Seen()
    with closing(Capture(Stream(Address.parse(mjpeg.url)), on_status=seen, stall_s=0.5, backoff=soon())) as camera:
        await camera.read()
        mjpeg.flowing.clear()
        lost = await seen.until("online", "lost")
        assert "stopped sending frames" in str(lost.reason)
        mjpeg.flowing.set()
        assert await camera.read() is not None
        assert seen.statuses[-1] == ONLINE


async def test_stream_reports_what_to_do_when_its_host_is_unknown() -> None:
    seen = Seen()
    with closing(Capture(Stream(Address.parse("rtsp://u:p@camera.invalid/x")), on_status=seen)):
        reason = str((await seen.until("lost")).reason)
    assert reason.startswith("rtsp://camera.invalid/x: the host name cannot be resolved.")


async def test_stream_reports_a_wrong_path_when_its_server_answers(mjpeg: MjpegServer) -> None:
    seen = Seen()
    with closing(Capture(Stream(Address.parse(f"{mjpeg.url}/typo")), on_status=seen)):
        lost = await seen.until("lost")
        assert "answers but sends no video. Check the path, user name and password" in str(lost.reason)


async def test_stream_reports_how_its_server_refused_it() -> None:
    seen = Seen()
    with (
        RtspServer(password="right") as server,
        closing(Capture(Stream(Address.parse(server.url("wrong"))), on_status=seen)),
    ):
        reason = str((await seen.until("lost")).reason)
    assert (
        reason.replace("(", "")
        .replace(")", "")
        .endswith(  # FFmpeg's versions differ
            "in its URL. Its last message: rtsp: method DESCRIBE failed: 401 Unauthorized."
        )
    )


async def test_stream_that_was_unreachable_is_opened_only_once_it_answers(
    mjpeg: MjpegServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mjpeg.stop()
    stream, opened = Stream(Address.parse(mjpeg.url)), []
    monkeypatch.setattr("agent.sources.stream.ChildFeed", lambda *args, **_: opened.append(args))
    assert "does not answer" in stream.explain(opened=True)
    with pytest.raises(SourceError, match="does not answer"):
        stream.open()
    assert not opened
    mjpeg.start()
    stream.open()
    assert opened


async def test_stream_slower_than_the_time_of_a_lost_one_stays_open(mjpeg: MjpegServer) -> None:
    mjpeg.period_s = 0.6
    seen = Seen()
    with closing(Capture(Stream(Address.parse(mjpeg.url)), on_status=seen, stall_s=0.2, backoff=soon())) as camera:
        changes, steady = 0, 0
        while steady < 3:  # each attempt has more time for the second frame than the one before
            with anyio.fail_after(PATIENCE_S):
                assert await camera.read() is not None
            steady = steady + 1 if len(seen.statuses) == changes else 0
            changes = len(seen.statuses)
        assert changes > 2


def test_process_exits_cleanly_while_the_thread_is_inside_opencv(mjpeg: MjpegServer) -> None:
    mjpeg.period_s = 0.02
    command = [sys.executable, "-c", PROGRAM_THAT_READS_ONE_FRAME, mjpeg.url]
    ended = subprocess.run(command, cwd=REPOSITORY, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0


async def test_rtsp_stream_is_read_and_lost_when_its_server_dies() -> None:
    seen = Seen()
    with RtspServer() as server, closing(Capture(Stream(Address.parse(server.url())), on_status=seen)) as camera:
        frame = await camera.read()
        assert frame is not None
        b, g, r = frame.image().pixels.mean(axis=(0, 1))
        assert r > 200
        assert max(b, g) < 60
        server.kill()
        lost = await seen.until("online", "lost")
        # Which one depends on how soon the kernel releases the killed server's port.
        assert re.search("does not answer|stopped sending frames", str(lost.reason))
        assert "secret" not in str(lost.reason)


def test_video_over_http_leaves_the_transport_to_the_capture_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "restored after the test")
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS")
    open_with_ffmpeg(Address.parse("http://127.0.0.1:9/film.mp4"), timeout_s=0.2)
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ  # they inherit it, and it would outrank their own

"""Each kind of source gives frames whose content is right, at its rate, with the time of their capture."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import cv2
import pytest
from peers import picture_clock
from peers.hls_server import HlsServer
from peers.http_camera import fixed, http_camera, streaming
from peers.picture_clock import HEIGHT, WIDTH
from peers.rtsp_server import RtspServer
from sources.observing import PATIENCE_S, Seen

from agent.errors import ImageDamagedError
from agent.sources.capture_options import CaptureOptions, Command
from agent.sources.inbox import Inbox
from agent.sources.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from peers.http_camera import Viewer

    from agent.sources.source import Source

pytestmark = pytest.mark.anyio

_PERIOD_MS = 40
_FRAMES = 40
_RIGHT_MS = 100
_HLS_MS = 8000  # a frame arrives with its segment of half a second, and players begin some segments back


class Look(NamedTuple):
    """Milliseconds: what the picture says, of the capture, and of the moment after read()."""

    drawn: int
    captured: float
    read: float


Opened: TypeAlias = "tuple[str | Command, CaptureOptions]"


@contextmanager
def _command(form: str) -> Iterator[Opened]:
    run = (sys.executable, picture_clock.__file__, form)
    yield Command(run, format=form, size=(WIDTH, HEIGHT)), CaptureOptions()  # type: ignore[arg-type]


@contextmanager
def _rtsp(transport: str) -> Iterator[Opened]:
    with RtspServer(pattern="clock") as server:
        yield server.url(), CaptureOptions(transport=transport)  # type: ignore[arg-type]


@contextmanager
def _mjpeg() -> Iterator[Opened]:
    def part(_: int) -> bytes:
        return b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + picture_clock.jpeg(picture_clock.now_ms()) + b"\r\n"

    sending = streaming(part, "multipart/x-mixed-replace; boundary=frame", period_s=picture_clock.PERIOD_S)
    with http_camera({"/cam": sending}) as camera:
        yield camera.url("/cam"), CaptureOptions()


@contextmanager
def _snapshot() -> Iterator[Opened]:
    def answer(viewer: Viewer) -> None:
        fixed(picture_clock.jpeg(picture_clock.now_ms()), "image/jpeg")(viewer)

    with http_camera({"/snap": answer}) as camera:
        yield camera.url("/snap"), CaptureOptions()


_LIVE: dict[str, Callable[[], AbstractContextManager[Opened]]] = {
    "command, mjpeg": lambda: _command("mjpeg"),
    "command, bgr24": lambda: _command("bgr24"),
    "command, i420": lambda: _command("i420"),
    "RTSP over TCP": lambda: _rtsp("tcp"),
    "RTSP over UDP": lambda: _rtsp("udp"),
    "MJPEG": _mjpeg,
    "snapshot URL": _snapshot,
}


@pytest.mark.parametrize("kind", _LIVE)
async def test_frames_of_a_live_camera_have_the_time_at_which_they_were_taken(kind: str) -> None:
    with _LIVE[kind]() as (source, options):
        looks = await _looks(source, options)
    late_ms = sorted(look.captured - look.drawn for look in looks)
    # A machine that is busy delays frames, but never all of them.
    assert -2 < late_ms[0] <= late_ms[len(late_ms) // 4] < _RIGHT_MS
    assert _ascending([look.drawn for look in looks])
    if kind != "snapshot URL":  # which has the rate at which it is read
        assert statistics.median(_gaps(look.drawn for look in looks)) == pytest.approx(_PERIOD_MS, abs=8)


@pytest.mark.long
async def test_frames_of_hls_have_the_time_at_which_they_arrived(tmp_path: Path) -> None:
    with HlsServer(tmp_path, has_clock=True) as server:
        while not (tmp_path / "live.m3u8").exists():  # noqa: ASYNC110  (another process writes it)
            await asyncio.sleep(0.05)
        looks = await _looks(server.url(), CaptureOptions())
    assert _ascending([look.drawn for look in looks])
    assert all(-2 < look.captured - look.drawn < _HLS_MS for look in looks)
    assert statistics.median(look.read - look.captured for look in looks) < _RIGHT_MS


async def test_frames_of_a_video_have_the_times_of_its_pace(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 1000 / _PERIOD_MS, (WIDTH, HEIGHT))
    for number in range(_FRAMES):
        film.write(picture_clock.draw(number * _PERIOD_MS))
    film.release()
    looks = await _looks(str(path), CaptureOptions())
    assert [look.drawn for look in looks] == [number * _PERIOD_MS for number in range(_FRAMES)]
    # A machine that is busy moves all later frames, but never brings one forward.
    late_ms = [look.captured - looks[0].captured - look.drawn for look in looks]
    assert min(late_ms) > -2
    assert statistics.median(_gaps(look.captured for look in looks)) == pytest.approx(_PERIOD_MS, abs=8)


@pytest.mark.parametrize("prefix", ["", "inbox:"], ids=["folder", "inbox"])
async def test_each_image_of_a_folder_is_read_once_and_captured_then(tmp_path: Path, prefix: str) -> None:
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(picture_clock.jpeg(number))
    looks = await _looks(f"{prefix}{tmp_path}", CaptureOptions(), count=5)
    assert [look.drawn for look in looks] == list(range(5))
    assert all(0 <= look.read - look.captured < _RIGHT_MS for look in looks)


async def _looks(where: str | Command, options: CaptureOptions, *, count: int = _FRAMES) -> list[Look]:
    seen = Seen()
    source = open_source(where, loop=False, on_status=seen, options=options)
    try:
        looks = [await _look(source) for _ in range(count)]
        assert [status.state for status in seen.statuses] == ["online"]
    finally:
        source.close()
        await source.wait_closed()
    return looks


async def _look(source: Source) -> Look:
    frame = await asyncio.wait_for(source.read(), PATIENCE_S)
    read_ms = _since_start_ms(time.monotonic_ns())
    assert frame is not None
    drawn = picture_clock.read(frame.image().pixels)
    assert drawn is not None, "the picture is not the one that was drawn"
    if isinstance(source, Inbox):
        await source.done({None: ImageDamagedError("for this test")})
    return Look(drawn, _since_start_ms(frame.captured_ns), read_ms)


def _since_start_ms(ns: int) -> float:
    """As picture_clock.now_ms(), which begins again every four hours."""
    return ns / 1e6 % (1 << 24)


def _ascending(values: list[int]) -> bool:
    return all(gap > 0 for gap in _gaps(values))


def _gaps(values: Iterator[float] | list[int]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(values)]

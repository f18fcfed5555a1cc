from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import psutil
import pytest
from sources.observing import Seen, capture_processes, soon, until

from agent.errors import SourceError
from agent.image import Image
from agent.sources import capture_process
from agent.sources.address import Address
from agent.sources.capture import Capture
from agent.sources.child import ChildFeed
from agent.sources.frame_memory import SLOT_BYTES, SLOTS
from agent.sources.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.mjpeg_server import MjpegServer
    from sources.fake_capture import FakeCapture

    from agent.frame import Frame

JPEG = np.frombuffer(b"\xff\xd8\xff and so on", np.uint8)


@pytest.fixture
def feed(capture: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildFeed]:
    """A feed whose process is a thread of this one, so that a test can choose what the camera gives."""
    threads = []

    class Process:
        def __init__(self, command: list[str], **_: object) -> None:
            control, memory = (os.dup(int(descriptor)) for descriptor in command[-2:])
            threads.append(threading.Thread(target=run, args=(control, memory)))
            threads[-1].start()

        def kill(self) -> None:
            pass

        def wait(self, _: float) -> None:
            for thread in threads:
                thread.join()

    def run(control: int, memory: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["", str(control), str(memory)])
            patch.setattr(capture_process, "die_with_parent", lambda _: True)
            patch.setattr(capture_process, "_open", lambda _: capture)
            try:
                capture_process.main()
            except (OSError, SystemExit):
                pass
            finally:
                os.close(memory)

    monkeypatch.setattr(subprocess, "Popen", Process)
    opened = ChildFeed({}, why_ended=lambda was_open, _: f"ended, open: {was_open}")
    yield opened
    opened.close()


def frame_of(feed: ChildFeed) -> Frame:
    feed.want()
    while True:
        arrival = feed.read(1.0)
        if arrival is not None and arrival.frame is not None:
            return arrival.frame


def test_frames_are_counted_but_only_wanted_ones_are_retrieved(feed: ChildFeed, capture: FakeCapture) -> None:
    arrivals = [feed.read(5.0) for _ in range(3)]
    assert [arrival.frame for arrival in arrivals if arrival] == [None] * 3
    assert sum(arrival.frames for arrival in arrivals if arrival) > 10
    assert capture.retrieved == 0
    frame_of(feed)
    assert capture.retrieved == 1


def test_jpeg_of_the_camera_stays_encoded(feed: ChildFeed, capture: FakeCapture) -> None:
    capture.retrieves = [JPEG.reshape(1, -1)]
    assert frame_of(feed).picture == JPEG.tobytes()


def test_gray_frame_stays_gray(feed: ChildFeed, capture: FakeCapture) -> None:
    capture.retrieves = [np.full((4, 6), 7, np.uint8)]
    image = frame_of(feed).image()
    assert image.color == "gray"
    assert image.pixels.tolist() == [[7] * 6] * 4


def test_damaged_frame_is_skipped(feed: ChildFeed, capture: FakeCapture) -> None:
    half_jpeg = np.zeros((1, 40), np.uint8)
    capture.retrieves = [None, cv2.error("empty buffer"), half_jpeg, np.full((2, 2, 3), 9, np.uint8)]
    assert frame_of(feed).image().pixels.max() == 9


def test_large_picture_is_handed_over_as_a_jpeg_and_otherwise_refused(feed: ChildFeed, capture: FakeCapture) -> None:
    width, height = 8000, 6000
    capture.settings = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height}
    capture.retrieves = [JPEG.reshape(1, -1), np.broadcast_to(np.uint8(1), (height, width, 3))]
    assert frame_of(feed).picture == JPEG.tobytes()
    with pytest.raises(SourceError, match=r"pictures of 137 MB, and at most 64 MB are possible\. Set a smaller size\."):
        frame_of(feed)


def test_frame_stays_whole_while_it_is_used(feed: ChildFeed, capture: FakeCapture) -> None:
    capture.retrieves = [np.full((4, 4, 3), value, np.uint8) for value in range(20)]
    kept = [frame_of(feed) for _ in range(SLOTS)]
    feed.want()
    assert all(arrival is None or arrival.frame is None for arrival in [feed.read(0.3) for _ in range(3)])
    assert [frame.image().pixels.max() for frame in kept] == [0, 1, 2, 3]
    del kept[1]
    gc.collect()
    assert frame_of(feed).image().pixels.max() == 4
    assert [frame.image().pixels.max() for frame in kept] == [0, 2, 3]


def test_size_may_change_in_the_stream(feed: ChildFeed, capture: FakeCapture) -> None:
    capture.retrieves = [np.ones((2, 3, 3), np.uint8), np.ones((400, 300, 3), np.uint8)]
    assert [frame_of(feed).image().pixels.shape for _ in range(2)] == [(2, 3, 3), (400, 300, 3)]


def test_memory_is_used_only_where_frames_were_written(feed: ChildFeed, capture: FakeCapture) -> None:
    for _ in range(10):
        frame_of(feed)
    blocks = os.fstat(feed._memory.fd).st_blocks
    assert blocks * 512 < SLOT_BYTES / 100


@contextmanager
def capture_of(url: str, seen: Seen) -> Iterator[Capture]:
    with closing(Capture(Stream(Address.parse(url)), on_status=seen, stall_s=0.5, backoff=soon())) as camera:
        yield camera


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
async def test_process_that_dies_or_stops_is_replaced(mjpeg: MjpegServer, number: signal.Signals) -> None:
    seen = Seen()
    with capture_of(mjpeg.url, seen) as camera:
        frame = await camera.read()
        assert frame is not None
        assert isinstance(frame.picture, Image)
        before = frame.picture.pixels.copy()
        (old,) = capture_processes()
        assert "secret" not in " ".join(old.cmdline())
        old.send_signal(number)
        while "lost" not in [status.state for status in seen.statuses]:
            await camera.read()
        assert await camera.read() is not None
        await seen.until("online", "lost", "online")
        reason = str(seen.statuses[1].reason)
        assert ("stopped sending frames" if number == signal.SIGSTOP else f"was ended by {number.name}.") in reason
        assert [child.pid for child in capture_processes()] != [old.pid]
        assert (frame.picture.pixels == before).all()
    await until(lambda: not capture_processes())


def test_process_that_fails_is_lost_with_its_last_message(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "print('x' * 100_000, 'rtsp://user:secret@cam/ failed', sep=chr(10), file=sys.stderr)"
    monkeypatch.setattr("agent.sources.child._PROCESS", ("-c", f"import sys; {words}; sys.exit(3)"))
    feed = ChildFeed({}, why_ended=lambda *_: "ended")
    with closing(feed), pytest.raises(SourceError) as raised:
        frame_of(feed)
    assert str(raised.value) == (
        "The process that reads the camera failed with exit code 3. Its last message: rtsp://***@cam/ failed. "
        "The agent starts it again."
    )


def has_frame_memory() -> bool:
    return "memfd:frames" in Path("/proc/self/maps").read_text()


@pytest.mark.anyio
async def test_nothing_is_left_after_many_cameras(mjpeg: MjpegServer) -> None:
    async def once() -> None:
        with capture_of(mjpeg.url, Seen()) as camera:
            assert await camera.read() is not None
        await camera.wait_closed()

    await once()
    gc.collect()
    before = psutil.Process().num_fds()
    gc.disable()  # nothing may wait for it: a connection holds megabytes
    try:
        for _ in range(3):
            await once()
        await until(lambda: psutil.Process().num_fds() <= before)  # the server closes its end of a connection later
        await until(lambda: not has_frame_memory())  # the camera's thread holds it until it has ended
    finally:
        gc.enable()
    assert not capture_processes()


def test_camera_is_lost_and_holds_nothing_when_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **_named: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Try again")

    def reason() -> str:
        try:
            ChildFeed({}, why_ended=lambda *_: "")
        except SourceError as error:
            return str(error)
        return ""

    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = psutil.Process().num_fds()
    assert "cannot be started (Try again)" in reason()
    assert psutil.Process().num_fds() == before


def test_process_ends_with_its_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = os.memfd_create("frames")
    os.ftruncate(memory, SLOTS * SLOT_BYTES)
    command = [sys.executable, "-m", "agent.sources.capture_process"]
    with ours, theirs:
        process = subprocess.Popen([*command, str(theirs.fileno()), str(memory)], pass_fds=(theirs.fileno(), memory))
        theirs.close()
        ours.send(
            b'{"parent": %d, "path": "/dev/null", "size": null, "fps": null, "format": null, "controls": {}}'
            % os.getpid()
        )
        assert process.wait(20) == 0
    os.close(memory)

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from agent.sources.backoff import Backoff
from agent.sources.camera import Camera, redact
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from agent.image import Frame
    from agent.status import CameraState

ONLINE = CameraStatus("online")
PATIENCE_S = 20  # far longer than anything here takes
SYSTEM_PYTHON = "/usr/bin/python3"
REPOSITORY = Path(__file__).parents[2]
RTSP_SERVER = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=240,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 )"
)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


LAST_STEPS_OF_A_PROCESS = """
import asyncio, sys
from agent.sources.camera import Camera

async def main():
    camera = Camera(sys.argv[1], on_status=lambda _: None, timeout_s=0.5)
    await camera.read()
    camera.close()

asyncio.run(main())
"""


class Seen:
    """Every status reported, and the threads on which."""

    def __init__(self) -> None:
        self.statuses: list[CameraStatus] = []
        self.threads: set[threading.Thread] = set()
        self._changed = asyncio.Event()

    def __call__(self, status: CameraStatus) -> None:
        self.statuses.append(status)
        self.threads.add(threading.current_thread())
        self._changed.set()

    async def until(self, *states: CameraState) -> CameraStatus:
        """Waits until these states, and no others, were reported; returns the last status."""
        while len(self.statuses) < len(states):
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), PATIENCE_S)
        assert tuple(status.state for status in self.statuses) == states, self.statuses
        return self.statuses[-1]


class _Viewer(BaseHTTPRequestHandler):
    """Sends frame after frame to one client until the server stops."""

    server: _Listener

    def do_GET(self) -> None:
        mjpeg = self.server.mjpeg
        if self.path != "/cam":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            while not mjpeg.stopping.wait(mjpeg.period_s):
                if mjpeg.flowing.is_set():
                    self.wfile.write(mjpeg.next_part())
        except OSError:
            pass  # the client went away

    def log_message(self, *_: object) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    def __init__(self, port: int, mjpeg: MjpegServer) -> None:
        self.mjpeg = mjpeg
        super().__init__(("127.0.0.1", port), _Viewer)


class MjpegServer:
    """A real camera's HTTP stream on a free port; it stalls, stops and comes back on the same port.

    Frame n is n bright in blue, 0 in green and 200 in red.
    """

    def __init__(self) -> None:
        self.period_s = 0.01
        self.sent = 0
        self.flowing = threading.Event()
        self.flowing.set()
        self.stopping = threading.Event()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://user:secret@127.0.0.1:{self._port}/cam"

    def start(self) -> None:
        self.stopping.clear()
        self._listener = _Listener(self._port, self)
        self._port = self._listener.server_port
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()  # joins the viewers
        self._thread.join()

    def next_part(self) -> bytes:
        pixels = np.empty((48, 64, 3), np.uint8)
        pixels[:] = (min(self.sent, 255), 0, 200)
        self.sent += 1
        encoded, jpeg = cv2.imencode(".jpg", pixels)
        assert encoded
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg.tobytes() + b"\r\n"


class FakeCapture:
    """OpenCV's capture without a device: each grab waits for permission and answers what it is told."""

    def __init__(self) -> None:
        self.opened_with: tuple[object, ...] = ()
        self.settings: dict[int, float] = {}
        self.grabs: list[bool | Exception] = []
        self.retrieves: list[npt.NDArray[np.uint8] | Exception | None] = []
        self.retrieved = 0
        self.grabbed = 0
        self.released = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, *arguments: object) -> FakeCapture:
        self.opened_with = arguments
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, setting: int, value: float) -> bool:
        self.settings[setting] = value
        return True

    def grab(self) -> bool:
        self.free.wait()
        self.released.wait(0.001)
        self.grabbed += 1
        answer = self.grabs.pop(0) if self.grabs else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    def retrieve(self) -> tuple[bool, npt.NDArray[np.uint8] | None]:
        self.retrieved += 1
        answer = self.retrieves.pop(0) if self.retrieves else np.zeros((4, 6, 3), np.uint8)
        if isinstance(answer, Exception):
            raise answer
        return answer is not None, answer

    def release(self) -> None:
        self.released.set()


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    if not server.stopping.is_set():
        server.stop()


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCapture]:
    fake = FakeCapture()
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    yield fake
    fake.free.set()


def soon() -> Backoff:
    return Backoff(first_s=0.01, longest_s=0.02)


def blue(frame: Frame | None) -> int:
    assert frame is not None
    return round(float(frame.image.pixels[..., 0].mean()))


async def until(condition: Callable[[], bool]) -> None:
    async def look() -> None:
        while not condition():  # noqa: ASYNC110  (it comes true in another thread)
            await asyncio.sleep(0.002)

    await asyncio.wait_for(look(), PATIENCE_S)


def capture_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("camera ")]


def play(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs the scenario and sees that no capture thread outlives its camera."""

    async def whole() -> None:
        await asyncio.wait_for(scenario, PATIENCE_S)
        await until(lambda: not capture_threads())

    asyncio.run(whole())


def test_frame_carries_bgr_pixels_and_the_time_of_its_capture(mjpeg: MjpegServer) -> None:
    async def scenario() -> None:
        before_ns, seen = time.time_ns(), Seen()
        with closing(Camera(mjpeg.url, on_status=seen)) as camera:
            frame = await camera.read()
            assert frame is not None
            assert before_ns < frame.captured_ns <= time.time_ns()
            assert frame.image.color == "bgr"
            assert frame.image.pixels.shape == (48, 64, 3)
            assert frame.image.pixels[0, 0, 1:].tolist() == pytest.approx([0, 200], abs=4)
            assert seen.statuses == [ONLINE]
            assert seen.threads == {threading.current_thread()}

    play(scenario())


def test_newest_frame_wins_over_those_sent_meanwhile(mjpeg: MjpegServer) -> None:
    async def scenario() -> None:
        with closing(Camera(mjpeg.url, on_status=lambda _: None)) as camera:
            first = blue(await camera.read())
            sent = first + 40
            await until(lambda: mjpeg.sent >= sent)
            assert blue(await camera.read()) >= sent - 4

    play(scenario())


def test_camera_that_goes_away_is_lost_and_found_again(mjpeg: MjpegServer) -> None:
    async def scenario() -> None:
        seen = Seen()
        with closing(Camera(mjpeg.url, on_status=seen, backoff=soon())) as camera:
            await camera.read()
            await asyncio.to_thread(mjpeg.stop)
            reading = asyncio.create_task(camera.read())
            await seen.until("online", "lost")
            mjpeg.start()
            assert await reading is not None
            assert seen.statuses[-1] == ONLINE

    play(scenario())


def test_camera_that_is_off_at_the_start_is_found_later(mjpeg: MjpegServer, capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        mjpeg.stop()
        seen = Seen()
        with closing(Camera(mjpeg.url, on_status=seen, backoff=soon())) as camera:
            reason = str((await seen.until("lost")).reason)
            where = redact(mjpeg.url)
            assert reason == (f"{where} does not answer (Connection refused): check its power, network and port.")
            mjpeg.start()
            assert await camera.read() is not None
            await seen.until("lost", "online")

    play(scenario())
    assert "secret" not in "".join(capfd.readouterr())


def test_stream_that_stalls_is_frozen_until_it_flows_again(mjpeg: MjpegServer) -> None:
    async def scenario() -> None:
        seen = Seen()
        with closing(Camera(mjpeg.url, on_status=seen, stall_s=0.5)) as camera:
            await camera.read()
            mjpeg.flowing.clear()
            frozen = await seen.until("online", "frozen")
            assert "is open but gives no frames" in str(frozen.reason)
            mjpeg.flowing.set()
            await seen.until("online", "frozen", "online")
            assert await camera.read() is not None

    play(scenario())


def test_stream_that_stays_silent_is_lost_and_opened_anew(mjpeg: MjpegServer) -> None:
    async def scenario() -> None:
        seen = Seen()
        with closing(Camera(mjpeg.url, on_status=seen, timeout_s=0.5, backoff=soon())) as camera:
            await camera.read()
            mjpeg.flowing.clear()
            lost = await seen.until("online", "lost")
            assert "stopped sending frames" in str(lost.reason)
            mjpeg.flowing.set()
            assert await camera.read() is not None
            assert seen.statuses[-1] == ONLINE

    play(scenario())


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("9", "/dev/video9 is not found: plug the camera in"),
        ("/dev/v4l/by-id/none", "/dev/v4l/by-id/none is not found"),
        ("/dev/null", "/dev/null gives no video: stop the program that uses it"),
        ("rtsp://", "rtsp:// is not a URL: write it as"),
        ("http://[half", "http://[half is not a URL"),
        ("rtsp://u:p@camera.invalid/x", "rtsp://***@camera.invalid/x is not found: correct the host name"),
    ],
)
def test_source_that_cannot_be_opened_says_what_to_do(source: str, sentence: str) -> None:
    async def scenario() -> None:
        seen = Seen()
        with closing(Camera(source, on_status=seen)):
            assert str((await seen.until("lost")).reason).startswith(sentence)

    play(scenario())


def test_wrong_path_of_a_stream_is_told_from_a_camera_that_is_off(mjpeg: MjpegServer) -> None:
    async def scenario() -> None:
        seen = Seen()
        with closing(Camera(f"{mjpeg.url}/typo", on_status=seen)):
            lost = await seen.until("lost")
            assert "answers but gives no video: check the path, user name and password" in str(lost.reason)

    play(scenario())


def test_same_trouble_is_reported_once(capture: FakeCapture) -> None:
    async def scenario() -> None:
        seen = Seen()
        capture.grabs = [False] * 5
        with closing(Camera("/dev/null", on_status=seen, backoff=soon())) as camera:
            assert await camera.read() is not None
            lost = seen.statuses[0]
            assert seen.statuses == [lost, ONLINE]
            assert "/dev/null stopped giving frames" in str(lost.reason)

    play(scenario())


def test_device_is_opened_by_v4l2_with_a_queue_of_one(capture: FakeCapture) -> None:
    async def scenario() -> None:
        with closing(Camera("0", on_status=lambda _: None)) as camera:
            await camera.read()
            assert capture.opened_with == ("/dev/video0", cv2.CAP_V4L2)
            assert capture.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}
            camera.close()
            await until(capture.released.is_set)

    play(scenario())


def test_device_without_permission_is_lost(capture: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        seen = Seen()
        capture.grabs = [False]
        monkeypatch.setattr(os, "access", lambda *_: False)  # root, who may run this, may open everything
        with closing(Camera("/dev/null", on_status=seen)):
            assert "add the user of this program to the group video" in str((await seen.until("lost")).reason)

    play(scenario())


def test_frames_that_nobody_reads_are_not_decoded(capture: FakeCapture) -> None:
    async def scenario() -> None:
        with closing(Camera("0", on_status=lambda _: None)) as camera:
            await camera.read()
            grabbed = capture.grabbed
            await until(lambda: capture.grabbed >= grabbed + 20)
            assert capture.retrieved == 1
            await camera.read()
            assert capture.retrieved == 2

    play(scenario())


def test_damaged_frame_is_skipped(capture: FakeCapture) -> None:
    async def scenario() -> None:
        seen = Seen()
        capture.retrieves = [None, cv2.error("empty buffer"), np.full((4, 6), 7, np.uint8)]
        with closing(Camera("0", on_status=seen)) as camera:
            frame = await camera.read()
            assert frame is not None
            assert frame.image.color == "gray"
            assert seen.statuses == [ONLINE]

    play(scenario())


def test_camera_whose_frames_never_decode_is_frozen(capture: FakeCapture) -> None:
    async def scenario() -> None:
        seen = Seen()
        capture.free.clear()
        capture.retrieves = [None] * 100_000
        with closing(Camera("0", on_status=seen, stall_s=0.1)) as camera:
            reading = asyncio.create_task(camera.read())
            await asyncio.sleep(0)  # now the reader waits, before the first frame
            capture.free.set()
            await seen.until("frozen")
        assert await reading is None

    play(scenario())


def test_error_of_opencv_while_grabbing_is_a_loss(capture: FakeCapture) -> None:
    async def scenario() -> None:
        seen = Seen()
        capture.grabs = [cv2.error("driver trouble")]
        with closing(Camera("/dev/null", on_status=seen, backoff=soon())) as camera:
            assert await camera.read() is not None
            assert [status.state for status in seen.statuses] == ["lost", "online"]

    play(scenario())


def test_unexpected_error_of_the_thread_reaches_the_reader(capture: FakeCapture) -> None:
    async def scenario() -> None:
        capture.free.clear()
        capture.grabs = [ZeroDivisionError("a bug")]
        with closing(Camera("0", on_status=lambda _: None)) as camera:
            reading = asyncio.create_task(camera.read())
            await asyncio.sleep(0)
            capture.free.set()
            with pytest.raises(ZeroDivisionError):
                await reading
            with pytest.raises(ZeroDivisionError):
                await camera.read()
            assert capture.released.is_set()

    play(scenario())


def test_close_wakes_the_reader_while_the_driver_blocks(capture: FakeCapture) -> None:
    async def scenario() -> None:
        capture.free.clear()
        with closing(Camera("0", on_status=lambda _: None)) as camera:
            reading = asyncio.create_task(camera.read())
            await asyncio.sleep(0)
            camera.close()
            camera.close()
            assert await reading is None
            assert await camera.read() is None
            assert not capture.released.is_set()
            capture.free.set()
            await until(capture.released.is_set)

    play(scenario())


def test_close_ends_the_wait_for_the_next_attempt() -> None:
    async def scenario() -> None:
        seen = Seen()
        with closing(Camera("9", on_status=seen, backoff=Backoff(first_s=3600, longest_s=3600))):
            await seen.until("lost")

    play(scenario())


def test_cancelled_read_leaves_the_camera_readable(capture: FakeCapture) -> None:
    async def scenario() -> None:
        capture.free.clear()
        with closing(Camera("0", on_status=lambda _: None)) as camera:
            reading = asyncio.create_task(camera.read())
            await asyncio.sleep(0)
            reading.cancel()
            capture.free.set()
            assert await camera.read() is not None

    play(scenario())


def test_thread_ends_with_a_loop_that_nobody_closed_the_camera_on(capture: FakeCapture) -> None:
    async def forgotten() -> None:
        capture.free.clear()
        Camera("0", on_status=lambda _: None)

    asyncio.run(forgotten())
    capture.free.set()
    assert capture.released.wait(PATIENCE_S)


def test_process_ends_cleanly_while_opencv_holds_the_thread(mjpeg: MjpegServer) -> None:
    mjpeg.period_s = 0.02
    command = [sys.executable, "-c", LAST_STEPS_OF_A_PROCESS, mjpeg.url]
    ended = subprocess.run(command, cwd=REPOSITORY, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.9:554/live", "rtsp://10.0.0.9:554/live"),
        ("rtsp://admin:secret@cam/live", "rtsp://***@cam/live"),
        ("rtsp://admin:s/e?c@ret@cam/live", "rtsp://***@cam/live"),
        ("http://cam/video?user=admin&pwd=secret", "http://cam/video?***"),
    ],
)
def test_password_is_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@contextmanager
def rtsp_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    if not Path("/usr/lib/python3/dist-packages/gi/overrides/Gst.py").exists():
        pytest.skip("no RTSP server: apt-get install python3-gst-1.0 gir1.2-gst-rtsp-server-1.0")
    command = [SYSTEM_PYTHON, "-c", RTSP_SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            if not port:
                pytest.skip("no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0")
            yield f"rtsp://user:secret@127.0.0.1:{port}/cam", server
        finally:
            server.kill()


def test_rtsp_camera_is_read_and_lost_when_its_server_dies() -> None:
    async def scenario() -> None:
        seen = Seen()
        with rtsp_server() as (url, server), closing(Camera(url, on_status=seen)) as camera:
            frame = await camera.read()
            assert frame is not None
            b, g, r = frame.image.pixels.mean(axis=(0, 1))
            assert r > 200
            assert max(b, g) < 60
            server.kill()
            lost = await seen.until("online", "lost")
            # Which one depends on how soon the kernel lets go of the killed server's port.
            assert re.search("does not answer|stopped sending frames", str(lost.reason))
            assert "secret" not in str(lost.reason)

    play(scenario())

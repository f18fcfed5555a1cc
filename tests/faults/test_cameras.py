"""Cameras that die, stall, change and come back: only their own status changes."""

from __future__ import annotations

import gc
import time
from contextlib import closing
from typing import TYPE_CHECKING, TypeAlias

import psutil
import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from faults.scrape import scraped
from peers.hls_server import HlsServer
from peers.mjpeg_server import MjpegServer
from peers.rtsp_server import RtspServer
from sources.observing import capture_processes

from agent.host.backoff import Backoff
from agent.sources.address import Address
from agent.sources.capture import Capture
from agent.sources.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faults.figures import Figures
    from faults.scale import Scale
    from typing_extensions import Self

_LOST_S, _BACK_S = 6.0, 35.0


class _Mjpeg:
    def __init__(self) -> None:
        self._server = MjpegServer()
        self._server.period_s = 0.04

    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        if not self._server.stopping.is_set():
            self._server.stop()
            self._server.flowing.set()

    def stall(self) -> None:
        self._server.flowing.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


Camera: TypeAlias = RtspServer | HlsServer | _Mjpeg

_KINDS: dict[str, Callable[[Path], Camera]] = {
    "RTSP over TCP": lambda _: RtspServer(pattern="ball"),
    "RTSP over UDP": lambda _: RtspServer(pattern="ball"),
    "MJPEG": lambda _: _Mjpeg(),
    "HLS": HlsServer,
}


class Watched:
    """An agent with a camera that a test disturbs, and a video beside it that must not notice."""

    def __init__(self, agent: RunningAgent) -> None:
        self.agent = agent

    def state(self) -> str:
        states = scraped(self.agent, "edge_agent_camera_state", camera="front")
        return next((labels["state"] for labels, value in states if value), "")

    def frames(self, camera: str) -> float:
        counts = scraped(self.agent, "edge_agent_camera_frames_total", camera=camera, result="classified")
        return sum(value for _, value in counts)

    def until(self, state: str, *, within_s: float) -> float:
        begun_s = time.monotonic()
        wait_until(lambda: self.state() == state, timeout_s=within_s + 10, what=f"the camera is {state}")
        return time.monotonic() - begun_s


@pytest.fixture
def watched(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Watched, Camera]]:
    kind = request.param
    (tmp_path / "stream").mkdir()
    with _KINDS[kind](tmp_path / "stream") as camera:
        if kind == "HLS":
            wait_until((tmp_path / "stream" / "live.m3u8").exists, what="the first segment is written")
        front = {"source": camera.url(), "max_fps": 10}
        if kind == "RTSP over UDP":
            front["transport"] = "udp"
        cameras = {"front": front, "video": {"source": str(VIDEO), "loop": True}}
        with RunningAgent(tmp_path, cameras=cameras) as agent:
            agent.drop(DIGITS.read_bytes(), checksum=True)
            seen = Watched(agent)
            wait_until(lambda: seen.frames("front") > 5, timeout_s=30, what="the camera gives frames")
            yield seen, camera


@pytest.mark.parametrize("watched", _KINDS, indirect=True)
def test_camera_that_stalls_or_dies_comes_back_and_disturbs_no_other(
    watched: tuple[Watched, Camera], request: pytest.FixtureRequest, figures: Figures
) -> None:
    (seen, camera), kind = watched, request.node.callspec.params["watched"]
    # HLS comes in segments, so its silence may last as long as three of them.
    lost_within_s = _LOST_S + (4.0 if kind == "HLS" else 0.0)
    before, begun_s = seen.frames("video"), time.monotonic()
    camera.stall()
    stalled_s = seen.until("lost", within_s=lost_within_s)
    camera.kill()
    camera.start()
    back_s = seen.until("online", within_s=_BACK_S)
    camera.kill()
    killed_s = seen.until("lost", within_s=lost_within_s)
    rate = (seen.frames("video") - before) / (time.monotonic() - begun_s)
    camera.start()
    back_s = max(back_s, seen.until("online", within_s=_BACK_S))
    figures(f"{kind} camera that stalls: until it is lost", f"{lost_within_s:.0f} s", f"{stalled_s:.1f} s")
    figures(f"{kind} camera whose server dies: until it is lost", f"{lost_within_s:.0f} s", f"{killed_s:.1f} s")
    figures(f"{kind} camera that returns: until it is online", f"{_BACK_S:.0f} s", f"{back_s:.1f} s")
    figures(f"{kind} camera lost and back: frames/s of a video beside it", "25, at most 5 % less", f"{rate:.1f}")
    assert max(stalled_s, killed_s) < lost_within_s
    assert back_s < _BACK_S
    assert rate > 0.95 * 25
    before = seen.frames("front")
    wait_until(lambda: seen.frames("front") > before + 5, what="the camera gives frames again")


def test_camera_may_return_with_another_size(tmp_path: Path) -> None:
    with (
        RtspServer(pattern="ball") as camera,
        RunningAgent(tmp_path, cameras={"front": {"source": camera.url()}}) as agent,
    ):
        agent.drop(DIGITS.read_bytes(), checksum=True)
        seen = Watched(agent)
        wait_until(lambda: seen.frames("front") > 2, timeout_s=30, what="the camera gives frames")
        camera.kill()
        camera.start(size="640x480")
        seen.until("online", within_s=_BACK_S)
        before = seen.frames("front")
        wait_until(lambda: seen.frames("front") > before + 2, timeout_s=30, what="the camera gives frames again")


def test_camera_with_a_wrong_password_is_lost_until_it_is_right(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    with RtspServer(pattern="ball", password="right") as server:
        front = {"source": server.url("from the file").replace("user:from the file@", ""), "username": "user"}
        with RunningAgent(tmp_path, cameras={"front": {**front, "password_file": str(secret)}}) as agent:
            agent.drop(DIGITS.read_bytes(), checksum=True)
            seen = Watched(agent)
            seen.until("lost", within_s=10)
            assert "Check the path, user name and password" in str(agent.json("/readyz")["reasons"])
            secret.write_text("right")
            seen.until("online", within_s=_BACK_S)


@pytest.mark.anyio
async def test_nothing_grows_when_a_camera_dies_again_and_again(scale: Scale, figures: Figures) -> None:
    cycles, process = scale(short=10, full=100), psutil.Process()
    with _Mjpeg() as server:
        stream = Stream(Address.parse(server.url()))
        with closing(
            Capture(stream, on_status=lambda _: None, backoff=Backoff(first_s=0.01, longest_s=0.01))
        ) as camera:

            async def cycle() -> tuple[int, int, float]:
                for child in capture_processes():
                    child.kill()
                    child.wait(10)
                while not capture_processes():
                    await camera.read()
                for _ in range(3):
                    assert await camera.read() is not None
                gc.collect()
                return len(capture_processes()), process.num_fds(), process.memory_info().rss / 1e6

            await camera.read()
            children, descriptors, memory_mb = await cycle()
            for _ in range(cycles):
                last = await cycle()
        await camera.wait_closed()
    figures(
        f"the process of a camera is killed {cycles} times: processes, descriptors, memory",
        "as after the first time",
        f"{last[0]}, {last[1]}, {last[2]:.0f} MB; {children}, {descriptors}, {memory_mb:.0f} MB after the first time",
    )
    assert last[:2] == (children, descriptors)
    assert last[2] < memory_mb + 5

"""Open pages: 50 readers of events and 50 of pictures on one agent with a camera, and readers that never read."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from end_to_end.abuse import peak_rss_mb
from faults.scrape import scraped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.figures import Figures
    from faults.scale import Scale
    from typing_extensions import Self

EVENTS, PICTURES = "/api/live", "/api/cameras/front/stream.mjpg"


class Pages:
    """Open pages that read in a thread; `received` counts the bytes of each connection."""

    def __init__(self, agent: RunningAgent, *paths: str) -> None:
        self.sockets = [_ask(agent, path) for path in paths]
        self.received = dict.fromkeys(self.sockets, 0)
        self.ended = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for each in self.sockets:
            each.close()

    def _read(self) -> None:
        with selectors.DefaultSelector() as ready:
            for each in self.sockets:
                ready.register(each, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in ready.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    content = key.fileobj.recv(1 << 16)
                    self.received[key.fileobj] += len(content)
                    if not content:
                        self.ended += 1
                        ready.unregister(key.fileobj)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """With one camera, whose frames have their own pace."""
    with RunningAgent(tmp_path, cameras={"front": {"source": str(VIDEO), "loop": True}}) as running:
        running.drop(DIGITS.read_bytes())
        wait_until(lambda: running.get("/readyz").is_success, what="the agent is ready")
        yield running


@pytest.mark.alone
def test_fifty_open_pages_leave_the_camera_alone(agent: RunningAgent, scale: Scale, figures: Figures) -> None:
    seconds = scale(short=8, full=60)
    own_fps, own_cpu = _measured(agent, seconds)
    descriptors = _descriptors(agent)
    with Pages(agent, EVENTS, PICTURES) as page:
        one_fps, one_cpu = _measured(agent, seconds)
    with peak_rss_mb(agent) as growth_mb, Pages(agent, *[EVENTS, PICTURES] * 50) as pages:
        many_fps, many_cpu = _measured(agent, seconds)
        grown_mb = growth_mb()
    wait_until(lambda: _descriptors(agent) <= descriptors, what=f"at most {descriptors} descriptors remain")
    after_fps, after_cpu = _measured(agent, seconds)
    alone_fps = statistics.mean((own_fps, after_fps))
    figures("an open page with one stream: processor time", "at most 8 % of a core", f"{one_cpu - own_cpu:.1%}")
    figures("50 open pages with one stream each: processor time", "", f"{many_cpu - own_cpu:.1%} of a core")
    figures("50 open pages: processor time after they were closed", "as before", f"{after_cpu - own_cpu:+.1%}")
    figures("50 open pages: growth of memory (RSS)", "at most 30 MB", f"{grown_mb:.1f} MB")
    figures("50 open pages: frames of the camera", "within 5 %", f"{many_fps / alone_fps - 1:+.1%}")
    assert page.ended == pages.ended == 0
    assert min(pages.received.values()) > 1000
    assert one_cpu - own_cpu < 0.08
    assert grown_mb < 30
    assert one_fps == pytest.approx(alone_fps, rel=0.05)
    assert many_fps == pytest.approx(alone_fps, rel=0.05)


@pytest.fixture
def talkative_agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """With eight cameras whose pictures and Results are large, and a short deadline."""
    (tmp_path / "noise").mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (360, 640, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "noise" / f"{number}.jpg"), noise)
    camera = {"source": "noise", "loop": True, "max_fps": 6, "score_threshold": 0, "max_results": 10}
    names = ["front", *(f"side-{number}" for number in range(7))]
    with RunningAgent(tmp_path, http={"body_timeout_s": 1}, cameras=dict.fromkeys(names, camera)) as running:
        running.drop(DIGITS.read_bytes())
        wait_until(lambda: running.get("/readyz").is_success, what="the agent is ready")
        yield running


@pytest.mark.parametrize(("path", "what"), [(EVENTS, "events"), (PICTURES, "pictures")])
def test_reader_that_never_reads_is_dropped(
    talkative_agent: RunningAgent, path: str, what: str, figures: Figures
) -> None:
    agent, begun_s = talkative_agent, time.monotonic()
    with Pages(agent, path) as page, peak_rss_mb(agent) as growth_mb:
        wait_until(lambda: page.received[page.sockets[0]], what="the page reads")
        descriptors = _descriptors(agent)
        with _ask(agent, path):
            wait_until(lambda: _descriptors(agent) > descriptors, what="the other reader is connected")
            # The client itself does not notice: the kernel sends the end after what the client does not read.
            wait_until(lambda: _descriptors(agent) == descriptors, timeout_s=60, what="the connection is closed")
        figures(f"a reader of {what} that never reads: time until it is dropped", "", f"{_since(begun_s):.0f} s")
        assert growth_mb() < 20
        assert page.ended == 0


def _ask(agent: RunningAgent, path: str) -> socket.socket:
    """With a small buffer, so that the kernel does not read much in the place of the client."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(socket.socket())
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
        stream.connect(("127.0.0.1", agent.port))
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        stack.pop_all()
        return stream


def _measured(agent: RunningAgent, seconds: float) -> tuple[float, float]:
    """Frames per second of the camera, and the share of a core that the agent used."""
    begun_s, frames, cpu_s = time.monotonic(), _frames(agent), _cpu_s(agent)
    time.sleep(seconds)
    took_s = _since(begun_s)
    return (_frames(agent) - frames) / took_s, (_cpu_s(agent) - cpu_s) / took_s


def _frames(agent: RunningAgent) -> float:
    return sum(value for _, value in scraped(agent, "edge_agent_camera_frames_total", camera="front"))


def _cpu_s(agent: RunningAgent) -> float:
    fields = Path(f"/proc/{agent.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _descriptors(agent: RunningAgent) -> int:
    """Of sockets only: the cameras open and close their files."""
    names = []
    for descriptor in Path(f"/proc/{agent.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            names.append(str(descriptor.readlink()))
    return sum(name.startswith("socket:") for name in names)


def _since(begun_s: float) -> float:
    return time.monotonic() - begun_s

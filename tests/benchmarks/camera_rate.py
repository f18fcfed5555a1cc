"""Cameras: frames/s of a video, the processor time of a camera at max_fps 5, and the time from capture to Result."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import psutil
from agents.running_agent import RunningAgent, wait_until
from benchmarks.figure import Figure, Skipped
from benchmarks.material import CACHE
from faults.scrape import scraped
from peers.mosquitto import Mosquitto, free_port
from peers.subscriber import Subscriber

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROUNDS = 3
_SECONDS = 10.0
_SIZE = "1920x1080"


def figures(model: Path) -> Iterator[Figure | Skipped]:
    if shutil.which("ffmpeg") is None:
        yield Skipped("video and cameras of 1920x1080", "ffmpeg is not installed")
        return
    yield from _video(model)
    yield from _cameras(model)
    yield from _delay(model)


def _video(model: Path) -> Iterator[Figure]:
    """The frame rate in the file is more than any machine reaches, so the agent takes one frame after the other."""
    film = _film("fast", "-r", "240", frames=1200)
    ratios = []
    for _ in range(_ROUNDS):
        decode, invoke = _decoded_per_s(film), _invoked_per_s(model, film)
        ratios.append(_classified_per_s(model, film) / min(decode, invoke))
    yield Figure.of(f"H.264 {_SIZE} file / the slower of decode and classify alone", ratios, bound=0.90, at_most=False)


def _cameras(model: Path) -> Iterator[Figure]:
    """Percent of one core."""
    film = _film("camera", "-r", "30", frames=900)
    kinds: dict[str, tuple[Callable[[Path], Any], float]] = {"MJPEG": (_mjpeg, 10.0), "H.264": (_mpegts, 25.0)}
    for name, (serve, bound) in kinds.items():
        agent, loop = [], []
        for _ in range(_ROUNDS):
            with serve(film) as url:
                agent.append(_agent_percent(model, url))
            with serve(film) as url:
                loop.append(_loop_percent(url))
        what = f"{name} camera of {_SIZE} and 30 frames/s"
        yield Figure.of(f"{what}, max_fps 5: of one core", agent, unit="%", bound=bound)
        yield Figure.of(f"{what}, OpenCV's read loop: of one core", loop, unit="%")


def _delay(model: Path) -> Iterator[Figure | Skipped]:
    """In periods of 30 frames/s beyond the time of an inference, so at most 1."""
    what = f"MJPEG camera of {_SIZE}: capture to Result at a subscriber, p95"
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        yield Skipped(what, "mosquitto is not installed")
        return
    film = _film("camera", "-r", "30", frames=900)
    inference_s = 1 / _invoked_per_s(model, film)
    delays_s, periods = [], []
    for _ in range(_ROUNDS):
        with _mjpeg(film) as url:
            delays_s.append(_p95_delay_s(model, url))
        periods.append((delays_s[-1] - inference_s) * 30)
    yield Figure.of(what, [1e3 * each for each in delays_s], unit="ms")
    yield Figure.of(f"{what}, without an inference: periods of the camera", periods, bound=1.0)


def _p95_delay_s(model: Path, url: str) -> float:
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as broker:
        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port, "results": "all"}
        with (
            _watching(model, url, max_fps=10, mqtt=mqtt),
            Subscriber(broker.port, topics="+/+/cameras/+/result") as subscriber,
        ):
            time.sleep(_SECONDS)
            received = subscriber.of("/result")
    ages_s = sorted(each.age_s for each in received)
    return ages_s[len(ages_s) * 95 // 100]


def _film(name: str, *rate: str, frames: int) -> Path:
    path = CACHE / f"{name}_{_SIZE}.mp4"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        source = ["-f", "lavfi", "-i", f"testsrc2=size={_SIZE}:rate={rate[1]}", "-frames:v", str(frames)]
        coded = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "60", *rate]
        subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *source, *coded, str(path)], check=True)
    return path


def _decoded_per_s(film: Path) -> float:
    capture, frames, begun_s = cv2.VideoCapture(str(film), cv2.CAP_FFMPEG), 0, time.monotonic()
    while time.monotonic() < begun_s + _SECONDS / 2 and capture.read()[0]:
        frames += 1
    return frames / (time.monotonic() - begun_s)


def _invoked_per_s(model: Path, film: Path) -> float:
    """One frame after the other, with its preprocessing."""
    cv2.setNumThreads(1)
    file = read_model_file(model.read_bytes())
    classifier = TFLiteClassifier(file, file.settings, threads=1)
    classifier.warm_up()
    image = Image(cv2.VideoCapture(str(film)).read()[1], "bgr")
    calls, begun_s = 0, time.monotonic()
    while time.monotonic() < begun_s + _SECONDS / 4:
        classifier.scores(image)
        calls += 1
    return calls / (time.monotonic() - begun_s)


@contextmanager
def _watching(
    model: Path, source: str, *, mqtt: dict[str, Any] | None = None, **camera: object
) -> Iterator[RunningAgent]:
    with tempfile.TemporaryDirectory() as folder:
        cameras, mqtt = {"front": {"source": source, **camera}}, mqtt or {"enabled": False}
        with RunningAgent(Path(folder), cameras=cameras, engine={"workers": 1, "threads": 1}, mqtt=mqtt) as agent:
            agent.drop(model.read_bytes(), "mobilenet", checksum=True)
            wait_until(lambda: _frames(agent) > 5, timeout_s=60, what="the camera's frames are classified")
            yield agent


def _frames(agent: RunningAgent) -> float:
    counts = scraped(agent, "edge_agent_camera_frames_total", camera="front", result="classified")
    return sum(value for _, value in counts)


def _classified_per_s(model: Path, film: Path) -> float:
    with _watching(model, str(film), loop=True) as agent:
        before, begun_s = _frames(agent), time.monotonic()
        time.sleep(_SECONDS)
        return (_frames(agent) - before) / (time.monotonic() - begun_s)


def _agent_percent(model: Path, url: str) -> float:
    with _watching(model, url, max_fps=5) as agent:
        process = psutil.Process(agent.process.pid)
        before_s, begun_s = _cpu_s(process), time.monotonic()
        time.sleep(_SECONDS)
        return 100 * (_cpu_s(process) - before_s) / (time.monotonic() - begun_s)


def _cpu_s(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _loop_percent(url: str) -> float:
    process = multiprocessing.get_context("spawn").Process(target=_read_loop, args=(url,))
    process.start()
    time.sleep(2)
    watched = psutil.Process(process.pid)
    before_s, begun_s = _cpu_s(watched), time.monotonic()
    time.sleep(_SECONDS)
    percent = 100 * (_cpu_s(watched) - before_s) / (time.monotonic() - begun_s)
    process.kill()
    process.join()
    return percent


def _read_loop(url: str) -> None:
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    while capture.read()[0]:
        pass


@contextmanager
def _mjpeg(film: Path) -> Iterator[str]:
    """A process of its own sends JPEGs of 30 frames/s, made before."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.mjpeg_camera", str(film)], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/cam.mjpg"
        server.kill()


@contextmanager
def _mpegts(film: Path) -> Iterator[str]:
    """FFmpeg sends the file as it is, again and again, to the one client that connects."""
    url = f"tcp://127.0.0.1:{free_port()}"
    sending = ["-re", "-stream_loop", "-1", "-i", str(film), "-c", "copy", "-f", "mpegts", f"{url}?listen=1"]
    with subprocess.Popen(["ffmpeg", "-loglevel", "quiet", "-nostdin", *sending]) as server:
        yield url
        server.kill()

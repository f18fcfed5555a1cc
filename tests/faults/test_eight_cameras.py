"""Eight cameras with one model, which the processor cannot follow: equal shares, new frames, flat memory."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from agents.running_agent import ROOT, VIDEO, RunningAgent, wait_until
from faults.scrape import scraped
from peers.mosquitto import Mosquitto
from peers.rtsp_server import RtspServer
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.figures import Figures
    from faults.scale import Scale

_EACH = 4  # of two kinds
_PER_S = 20.0  # more than half of what the cameras give, and more than two cores classify


@pytest.mark.alone
@pytest.mark.assets
@pytest.mark.mosquitto
@pytest.mark.timeout(900)
def test_eight_cameras_get_equal_shares_of_two_cores_and_memory_stays_flat(
    tmp_path: Path, assets: Path, figures: Figures, scale: Scale
) -> None:
    warm_up_s, load_s = scale(short=(3, 10), full=(120, 480))
    model = assets / "models" / "mobilenet_v2_224_uint8" / "mobilenet_v2_1.0_224_quant.tflite"
    with _watching(tmp_path, model) as (agent, subscriber):
        _pause(warm_up_s)
        before_mb, begun_ns = _memory_mb(agent), time.time_ns()
        _pause(load_s)
        ended_ns, after_mb = time.time_ns(), _memory_mb(agent)
        lost = sum(value for _, value in scraped(agent, "edge_agent_camera_reconnects_total"))
        results = [each for each in subscriber.of("/result") if begun_ns <= each.arrived_ns < ended_ns]
        agent.end()
    ages_s: dict[str, list[float]] = {}
    for each in results:
        ages_s.setdefault(each.topic.split("/")[-2], []).append(each.age_s)
    counts = [len(each) for each in ages_s.values()]
    share = max(counts) / min(counts)
    period_s = load_s / statistics.mean(counts)
    worst_s = max(_p95(each) for each in ages_s.values())
    what = f"{2 * _EACH} cameras, MobileNetV2 and two workers, {warm_up_s + load_s} s"
    figures(f"{what}: frames of the camera with the most / with the fewest", "at most 1.20", f"{share:.2f}")
    figures(
        f"{what}: capture to Result, p95 of the worst camera",
        "under two periods",
        f"{worst_s / period_s:.2f} periods; {1e3 * worst_s:.0f} ms at {1 / period_s:.1f} frames/s of each camera",
    )
    figures(
        f"{what}: memory of all processes without files at the end",
        f"at most 10 MB more than after {warm_up_s} s",
        f"{after_mb:.0f} MB; {before_mb:.0f} MB after {warm_up_s} s",
    )
    assert len(counts) == 2 * _EACH
    assert lost == 0
    if scale.full:
        assert share <= 1.2
        assert worst_s < 2 * period_s
        assert after_mb < before_mb + 10


@contextmanager
def _watching(folder: Path, model: Path) -> Iterator[tuple[RunningAgent, Subscriber]]:
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(folder))
        rtsp = stack.enter_context(RtspServer(pattern="ball"))
        urls = {"rtsp": rtsp.url(), "mjpeg": stack.enter_context(_mjpeg())}
        cameras = {
            f"{kind}-{number}": {"source": url, "max_fps": _PER_S}
            for kind, url in urls.items()
            for number in range(_EACH)
        }
        agent = RunningAgent(
            folder,
            cameras=cameras,
            engine={"workers": 2, "threads": 1},
            mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port, "results": "all"},
        )
        agent.drop(model.read_bytes(), "mobilenet", checksum=True)
        stack.enter_context(agent)
        subscriber = stack.enter_context(Subscriber(broker.port, topics="+/+/cameras/+/result"))
        wait_until(
            lambda: len(subscriber.topics()) == 2 * _EACH, timeout_s=60, what="each camera's frames are classified"
        )
        yield agent, subscriber


@contextmanager
def _mjpeg() -> Iterator[str]:
    """In a process of its own: 30 frames/s to each client."""
    command = [sys.executable, "-m", "benchmarks.mjpeg_camera", str(VIDEO)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT / "tests") as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/cam.mjpg"
        server.kill()


def _memory_mb(agent: RunningAgent) -> float:
    """What the agent and its capture processes take together without pages of files, which other programs share."""
    process = psutil.Process(agent.process.pid)
    family = [each.pid for each in (process, *process.children(recursive=True))]
    return statistics.median(_sampled_mb(family) for _ in range(5))


def _sampled_mb(family: list[int]) -> float:
    _pause(0.5)
    return sum(_own_kb(Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in family) / 1e3


def _own_kb(smaps: str) -> int:
    """Anonymous and shared memory (the frames), each shared page divided by the processes that share it."""
    return sum(int(kb) for kb in re.findall(r"^Pss_(?:Anon|Shmem): *(\d+) kB$", smaps, re.MULTILINE))


def _p95(values: list[float]) -> float:
    return sorted(values)[len(values) * 95 // 100]


def _pause(seconds: float) -> None:
    time.sleep(seconds)

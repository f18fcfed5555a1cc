"""Swaps a model of MobileNet's size every two seconds for minutes, under uploads at a steady rate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from benchmarks.material import model_version
from end_to_end.material import sha256
from faults.processes import mark, marked
from faults.steady_load import Answer, SteadyLoad

if TYPE_CHECKING:
    from faults.figures import Figures
    from faults.scale import Scale

_PER_S = 20
_SWAP_EVERY_S = 2.0
_SLOWER = 2.0
_GROWTH = 1.1
_FIRST_RSS_AFTER = 5  # swaps: by then the allocator has reached its usual size


@dataclass(frozen=True, slots=True)
class _Span:
    """Times are of time.monotonic()."""

    begun_s: float
    ended_s: float

    def __contains__(self, answer: Answer) -> bool:
        return self.begun_s <= answer.due_s < self.ended_s


class _Swapper:
    """Drops two variants of one model alternately, with checksums, so the agent need not wait for unchanged files."""

    def __init__(self, agent: RunningAgent, model: Path) -> None:
        self._agent = agent
        self._variants = [model_version(model, number) for number in (0, 1)]
        self.hashes = [sha256(variant) for variant in self._variants]
        self.swaps = -1  # the first drop is not a swap
        self.rss_kb: dict[int, int] = {}
        self.drop()

    def drop(self) -> None:
        self.swaps += 1
        self._agent.drop(self._variants[self.swaps % 2], "mobilenet")
        checksum = f"{self.hashes[self.swaps % 2]}  mobilenet.tflite\n"
        (self._agent.models / "mobilenet.tflite.sha256").write_text(checksum)

    def wait(self) -> None:
        """Until the variant that was dropped last serves."""
        version = str(self.swaps + 1)
        wait_until(lambda: self._serving() == version, what=f"version {version} serves")

    def swap_for(self, seconds: float) -> _Span:
        """Drops a variant every two seconds, or once the previous one serves if that takes longer."""
        begun_s = due_s = time.monotonic()
        while due_s < begun_s + seconds:
            self.drop()
            self.wait()
            due_s = max(due_s + _SWAP_EVERY_S, time.monotonic())
            _pause_until(due_s)
            self.rss_kb[self.swaps] = _rss_kb(
                self._agent.process.pid
            )  # the last inference of the old version has ended
        return _Span(begun_s, time.monotonic())

    def _serving(self) -> str | None:
        serving = self._agent.model("mobilenet").get("serving")
        return serving["version"] if serving else None


@pytest.mark.alone
@pytest.mark.assets
@pytest.mark.timeout(900)
def test_repeated_swaps_lose_no_upload_and_leak_no_memory(
    tmp_path: Path, assets: Path, figures: Figures, scale: Scale
) -> None:
    own = mark()
    rounds, rest_s, swapping_s = scale(short=(2, 5, 10), full=(5, 12, 60))
    picture = (assets / "photos" / "cat_720p.jpg").read_bytes()
    model = assets / "models" / "mobilenet_v2_224_uint8" / "mobilenet_v2_1.0_224_quant.tflite"
    agent = RunningAgent(tmp_path, environment=own, engine={"workers": 2, "threads": 1})
    swapper = _Swapper(agent, model)
    steady: list[_Span] = []
    swapping: list[_Span] = []
    with agent:
        swapper.wait()
        with SteadyLoad(agent, model="mobilenet", picture=picture, per_s=_PER_S) as load:
            wait_until(lambda: len(load.answers) > 2 * _PER_S, what="the load is steady")
            for _ in range(rounds):
                steady.append(_rested(rest_s))
                swapping.append(swapper.swap_for(swapping_s))
        agent.end()
    assert not marked(own)
    assert load.failures == []
    assert {answer.sha256 for answer in load.answers} <= set(swapper.hashes)

    calm_ms, busy_ms = _p99_ms(steady, load.answers), _p99_ms(swapping, load.answers)
    first_kb, last_kb = swapper.rss_kb[_FIRST_RSS_AFTER], swapper.rss_kb[swapper.swaps]
    what = f"{swapper.swaps} swaps of MobileNetV2 in {rounds * swapping_s} s under {_PER_S} uploads per second"
    figures(f"{what}: lost uploads", "0", f"{len(load.failures)} of {len(load.answers)}")
    figures(f"{what}: p99 latency", "at most twice that without swaps", f"{busy_ms:.1f} ms; {calm_ms:.1f} ms without")
    figures(
        f"{what}: memory (RSS) at the end",
        f"within 10 % of that after swap {_FIRST_RSS_AFTER}",
        f"{last_kb / 1e3:.0f} MB; {first_kb / 1e3:.0f} MB after swap {_FIRST_RSS_AFTER}",
    )
    assert swapper.swaps >= rounds * swapping_s / _SWAP_EVERY_S * 0.8
    if scale.full:
        assert busy_ms <= _SLOWER * calm_ms
        assert last_kb <= _GROWTH * first_kb


def _rested(seconds: float) -> _Span:
    begun_s = time.monotonic()
    _pause_until(begun_s + seconds)
    return _Span(begun_s, time.monotonic())


def _pause_until(end_s: float) -> None:
    time.sleep(max(0.0, end_s - time.monotonic()))


def _p99_ms(spans: list[_Span], answers: list[Answer]) -> float:
    took_ms = sorted(answer.took_ms for answer in answers if any(answer in span for span in spans))
    return took_ms[-1 - len(took_ms) // 100]


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.classification import Classification, ModelIdentity, ResultLog, Timing
from agent.host import board
from agent.metrics.stats import Stats

if TYPE_CHECKING:
    from pathlib import Path


def _log(stats: Stats) -> ResultLog:
    return ResultLog(device="pi", on_result=stats.observe)


def _taking(total_ms: float) -> Classification:
    return Classification(ModelIdentity("m", 1, "0" * 64), (), Timing(0, 0, 0, total_ms))


def test_rates_and_latencies_are_of_the_time_since_they_were_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    stats = Stats(cameras=["front", "back"])
    log = _log(stats)
    for total_ms in range(1, 101):
        log.record(_taking(float(total_ms)), source="front", captured_ns=0)
    for _ in range(5):
        log.record(_taking(1000.0), source="upload", captured_ns=0)
    now_s[0] = 110.0
    told = stats.tell()
    assert told["frames_per_s"] == {"front": 10.0, "back": 0.0}
    assert (told["uploads_per_s"], told["uptime_s"]) == (0.5, 10.0)
    assert told["latency_ms"] == {"p50": 53.0, "p95": 99.0, "p99": 1000.0}
    assert told["rss_bytes"] > 1_000_000
    now_s[0] = 111.0
    again = stats.tell()
    assert again["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert again["frames_per_s"] == {"front": 0.0, "back": 0.0}
    assert json.loads(json.dumps(again)) == again


@pytest.mark.parametrize(
    ("content", "throttled"), [("0\n", False), ("50000\n", False), ("50005", True), ("", None), ("x", None)]
)
def test_only_what_slows_the_board_down_now_counts(tmp_path: Path, content: str, throttled: bool | None) -> None:  # noqa: FBT001
    (tmp_path / "get_throttled").write_text(content)
    assert board.is_throttled(tmp_path / "get_throttled") is throttled


def test_a_board_that_does_not_say_is_not_known_to_be_slow(tmp_path: Path) -> None:
    assert board.is_throttled(tmp_path / "nothing") is None

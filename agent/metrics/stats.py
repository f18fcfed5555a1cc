"""Stats: rates and latencies since the last report, for the MQTT topic `<base>/stats` and for the page."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import psutil

from agent.classification import UPLOAD, Spot, iso_time
from agent.host.board import is_throttled, temperature_celsius
from agent.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.classification import Result

_PERCENTILES = (50, 95, 99)


class Stats(Listener):
    """For one thread only."""

    def __init__(self, *, started_s: float | None = None) -> None:
        """`started_s` is the time.monotonic() of the start, which `uptime_s` counts from; default: now."""
        self._cameras: dict[str, Sequence[Spot]] = {}
        self._process = psutil.Process()
        self._reported_s = time.monotonic()
        self._started_s = self._reported_s if started_s is None else started_s
        self._results: Counter[Spot] = Counter()
        self._skipped: Counter[Spot] = Counter()
        self._took_ms: deque[float] = deque(maxlen=2000)

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        self._cameras = dict(spots)

    def classified(self, result: Result) -> None:
        self._results[result.spot] += 1
        self._took_ms.append(result.classification.timing.total)

    def skipped(self, spot: Spot) -> None:
        self._skipped[spot] += 1

    def report(self) -> dict[str, Any]:
        """Rates and latencies cover the time since the last call; latencies are None if nothing was classified."""
        now_s = time.monotonic()
        passed_s, self._reported_s = max(now_s - self._reported_s, 1e-3), now_s
        results, skipped, took_ms = self._results, self._skipped, sorted(self._took_ms)
        self._results, self._skipped = Counter(), Counter()
        self._took_ms.clear()
        return {
            "at": iso_time(time.time_ns()),
            "uptime_s": round(now_s - self._started_s, 1),
            "frames_per_s": {
                camera: round(max(results[spot] + skipped[spot] for spot in spots) / passed_s, 2)
                for camera, spots in self._cameras.items()
            },
            **self._skipped_shares(results, skipped),
            "uploads_per_s": round(results[UPLOAD] / passed_s, 2),
            "latency_ms": {f"p{percent}": _percentile(took_ms, percent) for percent in _PERCENTILES},
            "temperature_celsius": temperature_celsius(),
            "throttled": is_throttled(),
            "rss_bytes": self._process.memory_info().rss,
        }

    def _skipped_shares(self, results: Counter[Spot], skipped: Counter[Spot]) -> dict[str, Any]:
        """By camera, over all its views; only of cameras that skipped any."""
        shares = {}
        for camera, spots in self._cameras.items():
            count = sum(skipped[spot] for spot in spots)
            if count:
                shares[camera] = round(count / (count + sum(results[spot] for spot in spots)), 3)
        return {"skipped": shares} if shares else {}


def _percentile(ascending: list[float], percent: int) -> float | None:
    return round(ascending[(len(ascending) - 1) * percent // 100], 3) if ascending else None

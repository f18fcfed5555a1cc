from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from agents.spots import unnamed

from agent.classification import Classification, ModelIdentity, Result, Spot, Timing
from agent.host import board
from agent.inference.results import Results
from agent.metrics.stats import Stats

if TYPE_CHECKING:
    from pathlib import Path


RESULTS = Results(device="pi")


def taking(total_ms: float, *, source: str) -> Result:
    answer = Classification(ModelIdentity("m", 1, "0" * 64), (), Timing(0, 0, 0, total_ms))
    return RESULTS.record(answer, spot=Spot(source), captured_ns=0)


def test_rates_and_latencies_cover_the_time_since_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    stats = Stats()
    stats.cameras_configured(unnamed("front", "back"))
    for total_ms in range(1, 101):
        stats.classified(taking(float(total_ms), source="front"))
    for _ in range(5):
        stats.classified(taking(1000.0, source="upload"))
    now_s[0] = 110.0
    first = stats.report()
    assert first["frames_per_s"] == {"front": 10.0, "back": 0.0}
    assert (first["uploads_per_s"], first["uptime_s"]) == (0.5, 10.0)
    assert first["latency_ms"] == {"p50": 53.0, "p95": 99.0, "p99": 1000.0}
    assert first["rss_bytes"] > 1_000_000
    now_s[0] = 111.0
    second = stats.report()
    assert second["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert second["frames_per_s"] == {"front": 0.0, "back": 0.0}
    assert json.loads(json.dumps(second)) == second


def test_skipped_frames_count_in_the_rate_and_have_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    stats = Stats()
    stats.cameras_configured({**unnamed("front", "back"), "yard": [Spot("yard", "a"), Spot("yard", "b")]})
    stats.classified(taking(1.0, source="front"))
    for _ in range(9):
        stats.skipped(Spot("front"))
        stats.skipped(Spot("yard", "a"))
    now_s[0] = 110.0
    report = stats.report()
    assert report["frames_per_s"] == {"front": 1.0, "back": 0.0, "yard": 0.9}
    assert report["skipped"] == {"front": 0.9, "yard": 1.0}
    assert "skipped" not in stats.report()


@pytest.mark.parametrize(
    ("content", "throttled"), [("0\n", False), ("50000\n", False), ("50005", True), ("", None), ("x", None)]
)
def test_only_current_throttling_counts(tmp_path: Path, content: str, throttled: bool | None) -> None:  # noqa: FBT001
    (tmp_path / "get_throttled").write_text(content)
    assert board.is_throttled(tmp_path / "get_throttled", tmp_path) is throttled


def test_throttling_is_unknown_if_the_board_does_not_report_it(tmp_path: Path) -> None:
    assert board.is_throttled(tmp_path / "nothing", tmp_path) is None
    assert board.power_alarms(tmp_path) == 0


def jetson(folder: Path) -> Path:
    """The part of /sys/class with which a Jetson Orin reports throttling; its fan runs."""
    files = {
        "thermal/cooling_device0": {"type": "pwm-fan", "cur_state": "3"},
        "thermal/cooling_device1": {"type": "cpu-throttle-alert", "cur_state": "0"},
        "thermal/cooling_device2": {"type": "gpu-throttle-alert", "cur_state": "0"},
        "hwmon/hwmon0": {"name": "ina3221", "oc1_event_cnt": "100"},
        "hwmon/hwmon1": {"name": "soctherm_oc", "oc1_event_cnt": "1", "oc3_event_cnt": "20", "oc3_throt_en": "1"},
    }
    for name, contents in files.items():
        (folder / name).mkdir(parents=True)
        for file, content in contents.items():
            (folder / name / file).write_text(f"{content}\n")
    return folder


def test_jetson_reports_heat_and_counts_alarms_of_its_power_supply(tmp_path: Path) -> None:
    system = jetson(tmp_path)
    assert board.is_throttled(tmp_path / "nothing", system) is False
    assert board.power_alarms(system) == 21
    (system / "thermal/cooling_device2/cur_state").write_text("1\n")
    (system / "hwmon/hwmon1/oc3_event_cnt").write_text("22\n")
    assert board.is_throttled(tmp_path / "nothing", system) is True
    assert board.power_alarms(system) == 23

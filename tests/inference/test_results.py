from __future__ import annotations

import re
import time

import pytest
from agents.clock import UnixClock

from agent.classification import Category, Classification, ModelIdentity, Spot, Timing
from agent.inference.results import Results

MODEL = ModelIdentity("birds", 7, "ab" * 32)
DAY_NS = 86_400 * 10**9
TEN_O_CLOCK_NS = 1_795_255_200_123_456_789  # 2026-11-21T10:00:00.123456789Z


def some_classification() -> Classification:
    return Classification(MODEL, (Category(3, "robin", 0.93),), Timing(1.1, 0.3, 1.7, 3.3))


def test_result_has_the_documented_json_form() -> None:
    result = Results(device="pi-1", clock=UnixClock()).record(
        some_classification(), spot=Spot("front"), captured_ns=TEN_O_CLOCK_NS
    )
    document = result.to_json()
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", document.pop("id"))
    assert document == {
        "seq": 1,
        "boot": result.boot,
        "device": "pi-1",
        "source": "front",
        "captured_at": "2026-11-21T10:00:00.123Z",
        "model": {"name": "birds", "version": "7", "sha256": "ab" * 32},
        "categories": [{"index": 3, "label": "robin", "score": 0.93}],
        "timing_ms": {"decode": 1.1, "preprocess": 0.3, "invoke": 1.7, "total": 3.3},
    }


def test_results_are_numbered_without_gaps_and_their_ids_sort_by_time() -> None:
    numbered = Results(device="pi-1", clock=UnixClock())
    results = [
        numbered.record(some_classification(), spot=Spot("front"), captured_ns=TEN_O_CLOCK_NS + n * 1_000_000)
        for n in range(50)
    ]
    assert [result.seq for result in results] == list(range(1, 51))
    ids = [result.id for result in results]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50


def test_id_begins_with_its_time_as_in_the_ulid_specification() -> None:
    result = Results(device="d", clock=UnixClock()).record(
        some_classification(), spot=Spot("s"), captured_ns=1_469_918_176_385_000_000
    )
    assert result.id.startswith("01ARYZ6S41")


@pytest.mark.parametrize("is_synced", [True, False])
def test_result_says_when_the_clock_is_not_set(*, is_synced: bool) -> None:
    results = Results(device="d", clock=UnixClock(is_synced=is_synced))
    document = results.record(some_classification(), spot=Spot("s"), captured_ns=TEN_O_CLOCK_NS).to_json()
    assert document.get("time_synced") is (None if is_synced else False)


def test_clock_that_jumps_changes_no_number_and_dates_the_next_result(monkeypatch: pytest.MonkeyPatch) -> None:
    real_ns = time.time_ns
    results = Results(device="d")
    first = results.record(some_classification(), spot=Spot("s"), captured_ns=time.monotonic_ns())
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() - DAY_NS)
    second = results.record(some_classification(), spot=Spot("s"), captured_ns=time.monotonic_ns())
    assert [first.seq, second.seq, first.boot == second.boot] == [1, 2, True]
    assert first.captured_ns - second.captured_ns == pytest.approx(DAY_NS, abs=60 * 10**9)

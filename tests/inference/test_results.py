from __future__ import annotations

import re

from agent.classification import Category, Classification, ModelIdentity, Timing
from agent.inference.results import Results

MODEL = ModelIdentity("birds", 7, "ab" * 32)
TEN_O_CLOCK_NS = 1_795_255_200_123_456_789  # 2026-11-21T10:00:00.123456789Z


def some_classification() -> Classification:
    return Classification(MODEL, (Category(3, "robin", 0.93),), Timing(1.1, 0.3, 1.7, 3.3))


def test_result_has_the_documented_json_form() -> None:
    result = Results(device="pi-1").record(some_classification(), source="front", captured_ns=TEN_O_CLOCK_NS)
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
    numbered = Results(device="pi-1")
    results = [
        numbered.record(some_classification(), source="front", captured_ns=TEN_O_CLOCK_NS + n * 1_000_000)
        for n in range(50)
    ]
    assert [result.seq for result in results] == list(range(1, 51))
    ids = [result.id for result in results]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50


def test_id_begins_with_its_time_as_in_the_ulid_specification() -> None:
    result = Results(device="d").record(some_classification(), source="s", captured_ns=1_469_918_176_385_000_000)
    assert result.id.startswith("01ARYZ6S41")

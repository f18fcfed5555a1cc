from __future__ import annotations

from agent.classification import ModelIdentity, StableState, iso_time

MODEL = ModelIdentity("birds", 7, "ab" * 32)
TEN_O_CLOCK_NS = 1_795_255_200_123_456_789  # 2026-11-21T10:00:00.123456789Z


def test_state_without_a_label_has_null_values() -> None:
    state = StableState(None, None, TEN_O_CLOCK_NS, MODEL)
    assert state.to_json() == {
        "label": None,
        "score": None,
        "since": "2026-11-21T10:00:00.123Z",
        "model": MODEL.to_json(),
    }


def test_times_are_utc_with_milliseconds() -> None:
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(TEN_O_CLOCK_NS) == "2026-11-21T10:00:00.123Z"

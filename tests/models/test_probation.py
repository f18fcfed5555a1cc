from __future__ import annotations

import pytest
from agents.clock import Clock

from agent.classification import Timing
from agent.errors import ModelError, NotFiniteError
from agent.models.probation import Probation

FAILURE = ModelError("The runtime fails.")


def answer(ms: float = 1.0) -> Timing:
    return Timing(5.0, 500.0, 10 * ms, 600.0, cpu=ms)


def test_version_fails_after_three_failures_in_a_row() -> None:
    probation = Probation(trial_ms=1)
    outcomes: list[Timing | ModelError] = [FAILURE, FAILURE, answer(), FAILURE, FAILURE]
    assert [probation.observe(outcome) for outcome in outcomes] == [None] * 5
    failed = probation.observe(FAILURE)
    assert failed is not None
    assert failed.cause == "failures"
    assert "3 inferences in a row failed (The runtime fails.)" in failed.reason


def test_version_fails_after_one_result_that_is_not_finite() -> None:
    failed = Probation(trial_ms=1).observe(NotFiniteError("NaN"))
    assert failed is not None
    assert failed.cause == "nan"


@pytest.mark.parametrize(
    ("trial_ms", "ms", "is_slow"), [(10, 29, False), (10, 31, True), (0.1, 15, False), (0.1, 21, True)]
)
def test_version_fails_when_its_cpu_time_is_far_above_that_of_the_trial(
    trial_ms: float, ms: float, *, is_slow: bool
) -> None:
    probation = Probation(trial_ms=trial_ms)
    failures = [probation.observe(answer(ms)) for _ in range(20)]
    assert failures[:-1] == [None] * 19
    assert (failures[-1] is not None) == is_slow
    if failures[-1] is not None:
        assert failures[-1].cause == "slow"


def test_version_passes_with_one_slow_call_in_twenty() -> None:
    probation = Probation(trial_ms=1)
    assert [probation.observe(answer(500.0 if n == 7 else 1.0)) for n in range(20)] == [None] * 20


def test_version_passes_when_only_its_first_calls_are_slow() -> None:
    probation = Probation(trial_ms=10)
    took_ms = [29.0] * 20 + [1.0] * 18 + [100.0] + [1.0]
    assert [probation.observe(answer(ms)) for ms in took_ms] == [None] * 40


def test_probation_is_over_after_its_number_of_calls() -> None:
    probation = Probation(trial_ms=1, inferences=3)
    for outcome in (answer(), FAILURE):
        probation.observe(outcome)
        assert not probation.is_over
    probation.observe(answer())
    assert probation.is_over


def test_probation_is_over_after_its_time() -> None:
    clock = Clock()
    probation = Probation(trial_ms=1, for_s=60, clock=clock)
    for _ in range(3):
        probation.observe(answer())
    over = []
    for clock.now_s in (1059.9, 1060.0):
        over.append(probation.is_over)
    assert over == [False, True]
    assert probation.end() is None


def test_probation_is_not_over_by_time_alone() -> None:
    clock = Clock()
    probation, over = Probation(trial_ms=1, for_s=60, clock=clock), []
    clock.now_s += 900
    for _ in range(4):
        over.append(probation.is_over)
        probation.observe(answer())
    assert over == [False, False, False, True]


def test_version_fails_at_the_end_when_its_few_calls_were_slow() -> None:
    probation = Probation(trial_ms=1, for_s=0)
    assert [probation.observe(answer(10_000.0)) for _ in range(3)] == [None] * 3
    assert probation.is_over
    failed = probation.end()
    assert failed is not None
    assert failed.cause == "slow"


def test_version_is_not_judged_by_its_speed_while_the_board_is_throttled() -> None:
    throttled = [True]
    probation = Probation(trial_ms=1, is_throttled=lambda: throttled[0])
    assert [probation.observe(answer(500)) for _ in range(25)] == [None] * 25
    throttled[0] = False
    assert [probation.observe(answer(1)) for _ in range(20)] == [None] * 20
    assert any(probation.observe(answer(500)) for _ in range(20))

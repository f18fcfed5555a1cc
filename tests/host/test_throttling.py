from __future__ import annotations

from typing import TYPE_CHECKING

from agents.clock import Clock

from agent.host.throttling import Throttling

if TYPE_CHECKING:
    import pytest


def test_throttling_is_over_a_minute_after_the_board_reported_it_last(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock, answers = Clock(), [True, True, *[False] * 13]
    throttling = Throttling(board=lambda: answers.pop(0), clock=clock)
    seen = []
    while answers:
        seen.append(throttling())
        throttling()  # does not ask the board again within 5 s
        clock.now_s += 5
    assert seen == [True] * 13 + [False] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_throttling_lasts_a_minute_after_an_alarm_of_the_power_supply() -> None:
    clock, alarms = Clock(), [7, 7, 8, *[8] * 12]  # the first number is that of the start
    throttling = Throttling(board=lambda: None, alarms=lambda: alarms.pop(0), clock=clock)
    seen = []
    while alarms:
        seen.append(throttling())
        clock.now_s += 5
    assert seen == [False] + [True] * 12 + [False]


def test_board_that_does_not_report_throttling_is_never_throttled() -> None:
    assert not Throttling(board=lambda: None)()

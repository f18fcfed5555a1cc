from __future__ import annotations

from agent.cameras.pace import Pace


def due_times(pace: Pace, *, took_s: float, count: int) -> list[float]:
    """When each frame is due, if each takes `took_s` from the read to the Result."""
    due_s, seen = 0.0, []
    for _ in range(count):
        due_s = pace.due_s(due_s, due_s + took_s)
        seen.append(due_s)
    return seen


def test_frames_are_due_at_the_configured_rate() -> None:
    assert due_times(Pace(max_fps=4, is_throttled=lambda: False), took_s=0.125, count=3) == [0.25, 0.5, 0.75]


def test_frames_are_due_as_soon_as_the_last_one_was_classified_when_the_workers_are_slow() -> None:
    assert due_times(Pace(max_fps=4, is_throttled=lambda: False), took_s=1.5, count=3) == [1.5, 3.0, 4.5]


def test_frames_are_due_half_as_often_while_the_board_is_throttled() -> None:
    throttled = [True]
    pace = Pace(max_fps=4, is_throttled=lambda: throttled[0])
    assert due_times(pace, took_s=0.125, count=3) == [0.5, 1.0, 1.5]
    throttled[0] = False
    assert due_times(pace, took_s=0.125, count=2) == [0.25, 0.5]

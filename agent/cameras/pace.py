"""Pace: how often a camera classifies a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SLOWED = 2.0  # a throttled board needs less work, or it stays hot


class Pace:
    """One camera's. A pipeline reads its next frame after the last one was classified, so busy workers slow it too.

    With one frame per camera in the workers' queue, which is served in the order of arrival, all cameras then get
    equal shares.
    """

    def __init__(self, *, max_fps: float, is_throttled: Callable[[], bool]) -> None:
        self.max_fps = max_fps  # may change
        self._is_throttled = is_throttled

    def due_s(self, last_due_s: float, now_s: float) -> float:
        """When to read the next frame. The time is counted from the last due time, so that the rate does not drift."""
        period_s = (_SLOWED if self._is_throttled() else 1.0) / self.max_fps
        return max(last_due_s + period_s, now_s)

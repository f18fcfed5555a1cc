"""Report: passes the status of a camera on whenever it changes, until the camera is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable


class Report:
    """Called on the event loop's thread. A camera begins as "starting", which its owner knows."""

    def __init__(self, on_status: Callable[[CameraStatus], None]) -> None:
        self._on_status = on_status
        self._status = CameraStatus("starting")
        self._is_over = False

    def __call__(self, status: CameraStatus) -> None:
        if status != self._status and not self._is_over:
            self._status = status
            self._on_status(status)

    def end(self) -> None:
        self._is_over = True

"""Stream: a live camera on the network that FFmpeg reads, such as RTSP, and the reason if it cannot be opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2

from agent.errors import SourceError
from agent.sources.reachability import why_unreachable

if TYPE_CHECKING:
    from agent.sources.address import Address


class Stream:
    """A live stream; lost if it sends nothing for `timeout_s`."""

    def __init__(self, address: Address, *, timeout_s: float = 4.0) -> None:
        self.name = str(address)
        self._address = address
        self._timeout_s = timeout_s

    def open(self) -> Any:
        """Raises SourceError; blocks for up to twice the timeout plus the time of the DNS lookup."""
        capture = open_with_ffmpeg(self._address, timeout_s=self._timeout_s)
        if not capture.isOpened():
            raise SourceError(self.explain(opened=False))
        return capture

    def explain(self, *, opened: bool) -> str:
        """Opens a separate connection to find the reason, since OpenCV gives none."""
        if why := why_unreachable(self._address, timeout_s=self._timeout_s):
            return why
        if opened:
            return f"{self.name} stopped sending frames. If this persists, restart the camera."
        return (
            f"{self.name} answers but sends no video. Check the path, user name and password in its URL."
            f"{self._address.advice}"
        )


def open_with_ffmpeg(address: Address, *, timeout_s: float) -> Any:
    """An OpenCV capture, which may not be open. Blocks; raises SourceError if the password cannot be read."""
    # OpenCV reads this at every open. Over UDP, lost packets damage frames, and firewalls drop the stream.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    timeout_ms = int(timeout_s * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return cv2.VideoCapture(address.url_with_login(), cv2.CAP_FFMPEG, limits)

"""Stream: a live camera on the network that FFmpeg reads, such as RTSP, and the reason if it cannot be opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2

from agent.sources.child import ChildFeed
from agent.sources.reachability import why_unreachable

if TYPE_CHECKING:
    from agent.sources.address import Address
    from agent.sources.capture_options import Transport
    from agent.sources.feed import Feed


class Stream:
    """A live stream; lost if it sends nothing for `timeout_s`."""

    def __init__(self, address: Address, *, timeout_s: float = 4.0, transport: Transport = "tcp") -> None:
        self.name = str(address)
        self._address = address
        self._timeout_s = timeout_s
        self._transport = transport

    def open(self) -> Feed:
        """Raises SourceError if the password cannot be read."""
        url = self._address.url_with_login()
        request = {"url": url, "timeout_s": self._timeout_s, "transport": self._transport}
        return ChildFeed(request, why_ended=lambda opened: self.explain(opened=opened))

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
    return open_url(address.url_with_login(), timeout_s=timeout_s)


def open_url(url: str, *, timeout_s: float, transport: Transport | None = None) -> Any:
    """Blocks for up to twice the timeout plus the time of the DNS lookup.

    The first `transport` counts for the whole process, and for those that it starts.
    """
    if transport is not None:
        # OpenCV reads this at every open. Over UDP, lost packets damage frames, and firewalls drop the stream.
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", f"rtsp_transport;{transport}")
    timeout_ms = int(timeout_s * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)

"""Stream: a live camera on the network that FFmpeg reads, such as RTSP, and the reason if it cannot be opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2

from agent.errors import SourceError
from agent.sources.child import ChildFeed
from agent.sources.reachability import BRIEF_S, why_unreachable

if TYPE_CHECKING:
    from agent.sources.address import Address
    from agent.sources.capture_options import Transport
    from agent.sources.feed import Feed


_FOREVER_MS = 24 * 3600 * 1000


class Stream:
    """A live stream. `timeout_s` is for a connection that finds out why it fails."""

    def __init__(self, address: Address, *, timeout_s: float = 4.0, transport: Transport = "tcp") -> None:
        self.name = str(address)
        self._address = address
        self._timeout_s = timeout_s
        self._transport = transport
        self._was_unreachable = False

    def open(self) -> Feed:
        """Raises SourceError if the password cannot be read, or the camera is still unreachable."""
        # No process for a camera that is off. A server behind tcp:// may accept only one connection.
        if self._was_unreachable and self._address.scheme != "tcp" and (why := self._why_unreachable(self._timeout_s)):
            raise SourceError(why)
        request = {"url": self._address.url_with_login(), "transport": self._transport}
        return ChildFeed(request, why_ended=self._why_ended)

    def explain(self, *, opened: bool) -> str:
        """Opens a separate connection to find the reason, since OpenCV gives none."""
        if why := self._why_unreachable(BRIEF_S if opened else self._timeout_s):
            return why
        if opened:
            return f"{self.name} stopped sending frames. If this persists, restart the camera."
        return (
            f"{self.name} answers, but has not sent a video yet. It gets more time in the next attempt. If this "
            "persists, restart the camera."
        )

    def _why_ended(self, opened: bool, last_words: str) -> str:  # noqa: FBT001  (as ChildFeed calls it)
        if opened:
            return self.explain(opened=True)
        return self._why_unreachable(self._timeout_s) or (
            f"{self.name} answers but sends no video. Check the path, user name and password in its URL."
            f"{self._address.advice}{last_words}"
        )

    def _why_unreachable(self, timeout_s: float) -> str | None:
        why = why_unreachable(self._address, timeout_s=timeout_s)
        self._was_unreachable = why is not None
        return why


def open_with_ffmpeg(address: Address, *, timeout_s: float) -> Any:
    """An OpenCV capture, which may not be open. Blocks; raises SourceError if the password cannot be read."""
    return _open(address.url_with_login(), timeout_ms=int(timeout_s * 1000))


def open_live(url: str, *, transport: Transport) -> Any:
    """The same in a capture process, without a time limit: the agent ends the process of a stream that is silent.

    The first `transport` counts for the whole process, and for those that it starts.
    """
    # OpenCV reads this at every open. Over UDP, lost packets damage frames, and firewalls drop the stream. Without the
    # second option, FFmpeg keeps the first 20 frames back to find out the frame rate.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", f"rtsp_transport;{transport}|fpsprobesize;0")
    return _open(url, timeout_ms=_FOREVER_MS)


def _open(url: str, *, timeout_ms: int) -> Any:
    """Blocks for up to twice the timeout plus the time of the DNS lookup."""
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)

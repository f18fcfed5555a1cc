"""MJPEG: a live camera that sends one JPEG after the other over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.errors import SourceError
from agent.frame import Frame
from agent.sources.feed import Arrival
from agent.sources.http_get import BROKEN
from agent.sources.pictures import Pictures
from agent.sources.reachability import BRIEF_S, why_unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.sources.feed import Feed
    from agent.sources.http_get import HttpClient


class MjpegStream:
    """FFmpeg would read only parts that are typed image/jpeg."""

    def __init__(self, client: HttpClient, opened: Pictures) -> None:
        """`opened` is read first, since some cameras serve only one connection at a time."""
        self.name = str(client.address)
        self._client = client
        self._opened: Pictures | None = opened

    def open(self) -> Feed:
        """Raises SourceError; blocks for up to twice the timeout plus the time of the DNS lookup."""
        opened, self._opened = self._opened, None
        try:
            pictures = opened or Pictures(self._client.get())
        except BROKEN as error:
            raise SourceError(self._client.explain(error)) from None
        return _MjpegFeed(pictures, why_ended=lambda: self.explain(opened=True))

    def explain(self, *, opened: bool) -> str:
        return why_unreachable(self._client.address, timeout_s=BRIEF_S) or (
            f"{self.name} stopped sending frames. If this persists, restart the camera."
            if opened
            else f"{self.name} sends no JPEG. Check its URL."
        )


class _MjpegFeed:
    """Hands over JPEGs, so that only those that are classified are decoded."""

    def __init__(self, pictures: Pictures, *, why_ended: Callable[[], str]) -> None:
        self._pictures = pictures
        self._why_ended = why_ended
        self._is_wanted = False

    def want(self) -> None:
        self._is_wanted = True

    def read(self, timeout_s: float) -> Arrival | None:
        try:
            picture = self._pictures.next_jpeg(timeout_s)
        except (*BROKEN, EOFError):
            raise SourceError(self._why_ended()) from None
        if picture is None:
            return None
        if not self._is_wanted:
            return Arrival(1)
        self._is_wanted = False
        return Arrival(1, Frame(picture, time.monotonic_ns()))

    def close(self) -> None:
        self._pictures.close()

"""FakeFeed: stands for an open camera; FakeInput opens it."""

from __future__ import annotations

import threading
import time

import numpy as np

from agent.errors import SourceError
from agent.frame import Frame
from agent.image import Image
from agent.sources.feed import Arrival

BLACK = Image(np.zeros((4, 6, 3), np.uint8), "bgr")


class FakeFeed:
    """Gives what the test lists in `gives`, then black frames; silent while `free` is not set.

    An error in the list is raised; a picture is a frame that is handed over if it is wanted.
    """

    def __init__(self) -> None:
        self.gives: list[Image | bytes | Exception] = []
        self.given = 0
        self.handed_over = 0
        self.opened = 0
        self.wanted = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.closed = threading.Event()

    def want(self) -> None:
        self.wanted.set()

    def read(self, timeout_s: float) -> Arrival | None:
        if not self.free.wait(timeout_s):
            return None
        self.closed.wait(0.001)
        given = self.gives.pop(0) if self.gives else BLACK
        self.given += 1
        if isinstance(given, Exception):
            raise given
        if not self.wanted.is_set():
            return Arrival(1)
        self.wanted.clear()
        self.handed_over += 1
        return Arrival(1, Frame(given, time.monotonic_ns()))

    def close(self) -> None:
        self.closed.set()


class FakeInput:
    """When the feed is silent for too long, the reason is "silent"."""

    name = "fake"

    def __init__(self, feed: FakeFeed) -> None:
        self._feed = feed

    def open(self) -> FakeFeed:
        self._feed.opened += 1
        return self._feed

    def explain(self, *, opened: bool) -> str:
        return "silent" if opened else "not open yet"


UNPLUGGED = SourceError("unplugged")

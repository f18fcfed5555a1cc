"""Video: the frames of a recorded video, from a file or over HTTP, at their own pace."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import cv2

from agent.errors import SourceError
from agent.image import Image
from agent.sources.reachability import why_unreachable
from agent.sources.recording import Shot, why_unreadable
from agent.sources.stream import open_with_ffmpeg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.sources.address import Address

_USUAL_FPS = 25.0
_LONGEST_S = 10.0  # between two frames; a longer time is a jump of the timestamps
_SHORTEST_PASS_S = 1.0  # or a looped video of a few frames would be fetched many times per second


class VideoFile:
    """Gives every frame of a video, none early and none skipped; a slow reader slows the video down."""

    has_own_pace = True

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.path = path

    def open(self) -> Iterator[Shot]:
        if not os.access(self.path, os.R_OK) or not self.path.is_file():
            raise SourceError(why_unreadable(self.path, "file"))
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        try:
            yield from _shots(capture, explain=lambda: _undecodable(self.path))
        finally:
            capture.release()


class VideoUrl:
    """The same for a recording that a web server has: a file or an HLS playlist with an end."""

    has_own_pace = True

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        self.name = str(address)
        self._address = address
        self._timeout_s = timeout_s
        self._opened_s = 0.0

    def open(self) -> Iterator[Shot]:
        time.sleep(max(0.0, self._opened_s + _SHORTEST_PASS_S - time.monotonic()))
        self._opened_s = time.monotonic()
        capture = open_with_ffmpeg(self._address, timeout_s=self._timeout_s)
        try:
            yield from _shots(capture, explain=self._explain)
            self._check_end(capture)
        finally:
            capture.release()

    def _explain(self) -> str:
        return why_unreachable(self._address, timeout_s=self._timeout_s) or _undecodable(self._address)

    def _check_end(self, capture: Any) -> None:
        """Raises SourceError if the video stopped well before the length that it announced; OpenCV does not tell."""
        frames, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        given, given_s = capture.get(cv2.CAP_PROP_POS_FRAMES), capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # Both are estimates for some formats, so one that reached the end is enough.
        if fps > 0 and given < 0.9 * frames and given_s < 0.9 * (frames - 1) / fps:
            raise SourceError(
                why_unreachable(self._address, timeout_s=self._timeout_s)
                or f"{self.name} stopped before its end. The agent plays it again from the start."
            )


def _undecodable(what: object) -> str:
    return f"{what} cannot be decoded as a video. Replace it, for example with an H.264 MP4."


def _shots(capture: Any, *, explain: Callable[[], str]) -> Iterator[Shot]:
    """Each frame lasts until the timestamp of the next one; a frame rate alone is often a guess."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    usual_s = 1 / (fps if 0 < fps <= 240 else _USUAL_FPS)
    decoded, pixels = capture.read()
    if not decoded:
        raise SourceError(explain())
    while decoded:
        at_ms, shown = capture.get(cv2.CAP_PROP_POS_MSEC), pixels
        decoded, pixels = capture.read()
        lasts_s = (capture.get(cv2.CAP_PROP_POS_MSEC) - at_ms) / 1000
        yield Shot(Image(shown, "bgr"), lasts_s if decoded and 0 < lasts_s < _LONGEST_S else usual_s)

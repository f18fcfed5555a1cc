"""Pictures: the pictures that a camera sends over HTTP, one per response (a still) or one after the other (MJPEG)."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

from agent.errors import ImageError, SourceError
from agent.image import JPEG_START, decode, has_image_signature
from agent.sources.http_get import BROKEN, MAX_BYTES
from agent.sources.jpegs import JpegCutter

if TYPE_CHECKING:
    from agent.sources.http_get import Body

HEAD_BYTES = 512
FIRST = 5  # timeouts until the first picture of a slow stream, some of which begin with the next one that they take


class Pictures:
    """The pictures of one response: JPEGs in any wrapping, or a single file. Every method blocks.

    Construct it before the body is read. Methods raise one of BROKEN, and SourceError.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._cutter = JpegCutter(body.buffer)
        self._ahead: deque[bytes] = deque()  # read by is_still()
        self._is_image = body.content_type.startswith("image/")

    def read(self) -> bytes | None:
        """The only or the next picture, not decoded; None at the end of the response."""
        if self._ahead:
            return self._ahead.popleft()
        if self._is_one_file():
            return self._body.read_all() or None
        return self._cut(3 * self._body.timeout_s, silence_s=self._body.timeout_s)

    def next_jpeg(self, within_s: float) -> bytes | None:
        """The next picture of a stream; None if it is not complete in that time. Raises EOFError at the end."""
        if self._ahead:
            return self._ahead.popleft()
        try:
            picture = self._cut(within_s)
        except TimeoutError:
            return None
        if picture is None:
            raise EOFError
        return picture

    def is_still(self) -> bool:
        """Whether the response ends after its first picture. Call it before others, which give the pictures again."""
        if self._is_one_file() or (self._is_image and self._body.has_length):
            return True
        try:
            first = self._cut(FIRST * self._body.timeout_s)
        except TimeoutError:
            raise SourceError(f"{self._body.name} sends no JPEG. Check its URL.") from None
        if first is None:
            raise SourceError(f"{self._body.name} sends no picture that the agent can read. Check its URL.")
        self._ahead.append(first)
        try:
            second = self._cut(self._body.timeout_s)
        except BROKEN:  # silence, or the end of the connection
            return self._is_image
        if second is not None:
            self._ahead.append(second)
            return False
        try:
            decode(first)
        except ImageError as error:  # a stream that broke off in its first picture is not a still
            raise SourceError(f"{self._body.name} sent a picture that cannot be used. {error}") from None
        return True

    def close(self) -> None:
        self._body.close()

    def _is_one_file(self) -> bool:
        head = self._body.head(HEAD_BYTES, FIRST * self._body.timeout_s)
        return JPEG_START not in head and (self._is_image or has_image_signature(head))

    def _cut(self, within_s: float, silence_s: float = math.inf) -> bytes | None:
        """Raises TimeoutError, also after `silence_s` without a byte; the next call then reads on."""
        latest_s = time.monotonic() + within_s
        while (picture := self._cutter.cut()) is None:
            if len(self._body.buffer) > MAX_BYTES:
                raise SourceError(f"{self._body.name} sends no JPEG. Check its URL.")
            if not self._body.fill(min(latest_s - time.monotonic(), silence_s)):
                return self._cutter.rest()
        return picture

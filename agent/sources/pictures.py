"""Pictures: the pictures that a camera sends over HTTP, one per response (a still) or one after the other (MJPEG)."""

from __future__ import annotations

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


class Pictures:
    """The pictures of one response: JPEGs in any wrapping, or a single file. Every method blocks.

    Construct it before the body is read; raises one of BROKEN, and SourceError.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._cutter = JpegCutter(body.buffer)
        self._ahead: deque[bytes] = deque()  # read by is_still()
        head = body.head(HEAD_BYTES)
        self._is_image = body.content_type.startswith("image/")
        self._is_one_file = JPEG_START not in head and (self._is_image or has_image_signature(head))

    def read(self) -> bytes | None:
        """The next picture, not decoded; None at the end of the response."""
        if self._ahead:
            return self._ahead.popleft()
        return self._body.read_all() or None if self._is_one_file else self._cut()

    def is_still(self) -> bool:
        """Whether the response ends after its first picture. Call it before read(), which gives the pictures again."""
        if self._is_one_file or (self._is_image and self._body.has_length):
            return True
        first = self._cut()
        if first is None:
            raise SourceError(f"{self._body.name} sends no picture that the agent can read. Check its URL.")
        self._ahead.append(first)
        try:
            second = self._cut()
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

    def _cut(self) -> bytes | None:
        latest_s = time.monotonic() + 3 * self._body.timeout_s  # the cutter forgets what is not a JPEG
        while (picture := self._cutter.cut()) is None:
            if len(self._body.buffer) > MAX_BYTES or time.monotonic() > latest_s:
                raise SourceError(f"{self._body.name} sends no JPEG. Check its URL.")
            if not self._body.fill():
                return self._cutter.rest()
        return picture

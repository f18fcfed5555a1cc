"""JPEGs: cuts the pictures out of a stream of bytes by their own markers (ITU-T T.81, B.1.1)."""

from __future__ import annotations

import re

from agent.image import JPEG_START

# In the compressed data, FF is followed by 00, or by a restart marker D0 to D7, or by another FF.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_IMAGE, _END_OF_IMAGE, _TEMPORARY = 0xD8, 0xD9, 0x01


class JpegCutter:
    """Ignores whatever stands between two pictures, such as part headers with a wrong type, length or boundary.

    A picture without its end marker ends where the next one starts, or with the stream.
    """

    def __init__(self, buffer: bytearray) -> None:
        """`buffer` grows elsewhere; each picture is removed from its start."""
        self._buffer = buffer
        self._at: int | None = None  # up to where the picture was followed; None outside a picture

    def cut(self) -> bytes | None:
        """The next picture; None if it is not complete yet."""
        buffer = self._buffer
        if self._at is None:
            start = buffer.find(JPEG_START)
            del buffer[: start if start >= 0 else max(0, len(buffer) - len(JPEG_START) + 1)]
            if start < 0:
                return None
            self._at = 2
        while (found := _MARKER.search(buffer, self._at)) is not None:
            marker = buffer[found.start() + 1]
            if marker == _END_OF_IMAGE:
                return self._take(found.end())
            if marker == _START_OF_IMAGE:
                return self._take(found.start())
            self._at = found.start()
            if marker == _TEMPORARY:
                self._at = found.end()
                continue
            end = found.end() + int.from_bytes(buffer[found.end() : found.end() + 2], "big")
            if len(buffer) < found.end() + 2 or len(buffer) < end:
                return None  # a segment, such as EXIF with a thumbnail, which is a JPEG itself
            self._at = max(end, found.end() + 2)
        self._at = max(self._at, len(buffer) - 1)
        return None

    def rest(self) -> bytes | None:
        """What is left of the last picture at the end of the stream."""
        return None if self._at is None else self._take(len(self._buffer))

    def _take(self, end: int) -> bytes:
        picture = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._at = None
        return picture

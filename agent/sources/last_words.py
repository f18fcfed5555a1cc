"""Last words: the end of what a process that reads a camera wrote to its standard error."""

from __future__ import annotations

import re

from agent.sources.address import redact
from agent.text import printable, shortened

_LAST_BYTES = 2000
_FFMPEG_PART = re.compile(r"\[(\w+) @ 0x[0-9a-f]+\]")  # [rtsp @ 0x5567a30c7dc0], another number in each process


class LastWords:
    """str() is the last line as the end of a sentence, without passwords in URLs; empty if there is none."""

    def __init__(self) -> None:
        self._text = b""

    def add(self, text: bytes) -> None:
        self._text = (self._text + text)[-_LAST_BYTES:]

    def __str__(self) -> str:
        lines = self._text.decode("utf-8", "replace").replace("\r", "\n").splitlines()  # \r: a progress display
        words = next((words for line in reversed(lines) if (words := line.strip())), "")
        shown = _FFMPEG_PART.sub(r"\1:", redact(printable(words)))
        return f" Its last message: {shortened(shown, 200)}." if words else ""

"""Command: a camera that is read by any program that writes frames to its standard output."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from agent.errors import SourceError
from agent.sources.byte_frames import JpegFrames, PixelFrames
from agent.sources.last_words import LastWords
from agent.sources.program import ProgramFeed

if TYPE_CHECKING:
    from agent.sources.byte_frames import ByteFrames
    from agent.sources.capture_options import Command
    from agent.sources.feed import Feed

_ADVICE = "Run the command in a terminal to see more, and correct the camera's key command."


class CommandCamera:
    """The program is started again whenever it ends or stops writing frames."""

    def __init__(self, command: Command, *, name: str | None = None, advice: str = _ADVICE) -> None:
        """`name` is shown instead of the program, whose arguments are not shown; `advice` ends each sentence."""
        self.name = name or os.path.basename(command.run[0])  # noqa: PTH119  (a name in PATH is not a path)
        self._command = command
        self._advice = advice
        self._last_words = LastWords()

    def open(self) -> Feed:
        """Raises SourceError if the program is missing."""
        if why := why_missing(self._command):
            raise SourceError(why)
        self._last_words = LastWords()
        try:
            return ProgramFeed(self._command.run, self._frames(), last_words=self._last_words, why_ended=self._sentence)
        except OSError as error:  # too many processes, no memory
            raise SourceError(f"{self.name} cannot be started: {error.strerror}. Close other programs.") from None

    def explain(self, *, opened: bool) -> str:
        wrote = "stopped writing frames" if opened else f"runs, but has written no {self._command.format} frame"
        return self._sentence(wrote)

    def _sentence(self, clause: str) -> str:
        return f"{self.name} {clause}.{self._last_words} {self._advice}"

    def _frames(self) -> ByteFrames:
        command = self._command
        if command.format == "mjpeg":
            return JpegFrames()
        assert command.size is not None
        return PixelFrames(command.size, is_i420=command.format == "i420")


def why_missing(command: Command) -> str | None:
    """A sentence if this process cannot find or run the program."""
    program = command.run[0]
    if shutil.which(program) is not None:
        return None
    if os.path.isfile(program):  # noqa: PTH113  (Path raises for a closed folder)
        return f"The program {program} is not executable. Allow it: sudo chmod a+rx {program}"
    where = "does not exist" if "/" in program else "is not installed, or not in PATH"
    return f"The program {program} {where}. Install it, or correct the camera's key command."

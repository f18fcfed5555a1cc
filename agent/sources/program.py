"""Program: a program that runs and writes frames to its standard output; it is stopped with all of its processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from agent.errors import SourceError
from agent.frame import Frame
from agent.sources.byte_frames import PIPE_BYTES
from agent.sources.feed import Arrival

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.sources.byte_frames import ByteFrames
    from agent.sources.last_words import LastWords

_PROCESS = ("-I", "-m", "agent.sources.command_process")
_ENDS_WITHIN_S = 1.0  # after SIGINT, so that it can release the camera
_KILLED_WITHIN_S = 2.0  # a process that hangs in a driver dies only when the driver returns
_OWN_PREFIX = "EDGE_AGENT_"  # of variables that may hold the agent's passwords
_OWN = ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class ProgramFeed:
    """Frames are only counted unless they are wanted. read() takes all output, so that the program never waits."""

    def __init__(
        self, run: Sequence[str], frames: ByteFrames, *, last_words: LastWords, why_ended: Callable[[str], str]
    ) -> None:
        """`run` is the program with its arguments; `why_ended` makes the sentence from how it ended."""
        self._frames = frames
        self._last_words = last_words
        self._why_ended = why_ended
        self._is_wanted = False
        self._process = subprocess.Popen(  # noqa: S603  (the configuration names the program)
            [sys.executable, *_PROCESS, str(os.getpid()), *run],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # makes it the leader of a process group
            cwd="/",
            env=outer_environment(),
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out, self._errors = self._process.stdout.fileno(), self._process.stderr.fileno()
        with contextlib.suppress(OSError):  # a user may have only so many large pipes
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._errors, select.POLLIN)

    def want(self) -> None:
        self._is_wanted = True

    def read(self, timeout_s: float) -> Arrival | None:
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            ready = dict(self._poll.poll(left_s * 1000))
            if self._errors in ready:  # first, or a program that writes many frames would wait for it
                self._listen()
            if self._out in ready and (frames := self._fill()):
                if not self._is_wanted:
                    return Arrival(frames)
                self._is_wanted = False
                return Arrival(frames, Frame(self._frames.take(), time.monotonic_ns()))
        return None

    def close(self) -> None:
        self._signal(signal.SIGINT)
        self._await_end()
        self._signal(signal.SIGKILL)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        reap(self._process)

    def _fill(self) -> int:
        try:
            return self._frames.fill(self._out)
        except EOFError:
            self._poll.unregister(self._out)
            raise SourceError(self._why_ended(self._end())) from None
        except SourceError as error:
            raise SourceError(self._why_ended(str(error))) from None

    def _listen(self) -> None:
        text = os.read(self._errors, PIPE_BYTES)
        if not text:
            self._poll.unregister(self._errors)
        self._last_words.add(text)

    def _end(self) -> str:
        """How the program ended, as the second half of a clause."""
        ended = self._await_end()
        if ended is None:
            return "closed its standard output"
        if ended.si_code == os.CLD_EXITED:
            return f"ended with exit code {ended.si_status}"
        return f"was ended by {signal.Signals(ended.si_status).name}"

    def _await_end(self) -> os.waitid_result | None:
        """Leaves a process that has ended in place, so that its number still means its group; None if it goes on."""
        until_s = time.monotonic() + _ENDS_WITHIN_S
        ended = None
        while ended is None and time.monotonic() < until_s:
            self._discard(0.01)
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        self._discard(0)
        return ended

    def _discard(self, timeout_s: float) -> None:
        """Goes on reading, since a program that ends may write its last frame, and what went wrong."""
        for fd, _ in self._poll.poll(timeout_s * 1000):
            if fd == self._errors:
                self._listen()
            elif not os.read(fd, PIPE_BYTES):
                self._poll.unregister(fd)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def reap(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that was killed or has ended; None if it hangs in a driver."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(_KILLED_WITHIN_S)
    return None


def outer_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_OWN_PREFIX) and name not in _OWN
    }

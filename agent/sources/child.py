"""Child: reads a camera in a capture process, which can be killed when OpenCV hangs in a driver or a dead stream."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from agent.errors import SourceError
from agent.frame import Frame
from agent.image import Image
from agent.sources.feed import Arrival
from agent.sources.frame_memory import ARRIVAL, FAILED, JPEG, NO_SLOT, FrameMemory
from agent.sources.last_words import LastWords
from agent.sources.program import outer_environment, reap

if TYPE_CHECKING:
    from collections.abc import Callable

_PROCESS = ("-m", "agent.sources.capture_process")
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "ERROR",
    "OPENCV_FFMPEG_THREADS": "1",  # with n threads, H.264 and H.265 frames come n - 1 frames later
}
_MESSAGE_BYTES = 4096
_PIPE_BYTES = 1 << 16


class ChildFeed:
    """A process of its own takes 34 MB and 0.3 s of the processor of a desktop machine to start."""

    def __init__(self, request: dict[str, Any], *, why_ended: Callable[[bool, str], str]) -> None:
        """`request` says what to open; `why_ended` makes the sentence for a process that found no more frames.

        It gets whether the camera was open, and the last message of the process as the end of a sentence, or "".
        Raises SourceError if no process can be started.
        """
        self._why_ended = why_ended
        self._opened = False
        self._is_wanted = self._is_asked = False
        self._asking = threading.RLock()  # a frame that is freed meanwhile asks too
        self._memory = FrameMemory(on_free=self._ask)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Sent before the process exists, as one that is killed at once would close the socket.
        self._control.send(json.dumps({**request, "parent": os.getpid()}).encode())
        self._last_words = LastWords()
        self._errors, their_errors = os.pipe()
        os.set_blocking(self._errors, False)
        try:
            with theirs:
                self._process = self._start(their_errors, theirs.fileno(), self._memory.fd)
        finally:
            os.close(their_errors)
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._errors, select.POLLIN)

    def want(self) -> None:
        self._is_wanted = True
        self._ask()

    def read(self, timeout_s: float) -> Arrival | None:
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            ready = dict(self._poll.poll(left_s * 1000))
            # First, or a process that writes many messages would wait for it.
            if self._errors in ready and not self._listen():
                self._poll.unregister(self._errors)
            if self._control.fileno() in ready:
                return self._receive()
        return None

    def _receive(self) -> Arrival:
        try:
            message = self._control.recv(_MESSAGE_BYTES)
        except ConnectionError:
            message = b""
        if not message:
            raise SourceError(self._end())
        frames, slot, kind, height, width, channels, captured_ns = ARRIVAL.unpack_from(message)
        if kind == FAILED:
            raise SourceError(message[ARRIVAL.size :].decode(errors="replace"))
        self._opened = True
        if slot == NO_SLOT:
            return Arrival(frames)
        self._is_wanted = self._is_asked = False
        shape = (height, width) if channels == 1 else (height, width, channels)
        content = self._memory.view(slot, shape)
        if kind == JPEG:
            return Arrival(frames, Frame(content.tobytes(), captured_ns))
        return Arrival(frames, Frame(Image(content, "bgr" if channels == 3 else "gray"), captured_ns))

    def close(self) -> None:
        self._is_wanted = False
        self._control.close()
        self._process.kill()
        reap(self._process)
        os.close(self._errors)
        self._memory.close()

    def _end(self) -> str:
        """Why the process ended. One that a library crashed has written why, or nothing but the signal is known."""
        code = reap(self._process)
        while self._listen():
            pass
        if not code:
            return self._why_ended(self._opened, str(self._last_words))
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        return f"The process that reads the camera {how}.{self._last_words} The agent starts it again."

    def _listen(self) -> bool:
        """False if there is nothing to read any more."""
        try:
            text = os.read(self._errors, _PIPE_BYTES)
        except BlockingIOError:
            return False
        self._last_words.add(text)
        return bool(text)

    def _start(self, errors: int, *descriptors: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603  (our own module)
                [sys.executable, *_PROCESS, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=descriptors,
                start_new_session=True,
                cwd="/",  # Python imports from its working directory
                env={**_ENVIRONMENT, **outer_environment()},
            )
        except OSError as error:
            self._control.close()
            os.close(self._errors)
            self._memory.close()
            raise SourceError(
                f"The process that reads the camera cannot be started ({error.strerror}). Free memory, or stop other "
                "programs."
            ) from None

    def _ask(self) -> None:
        """Gives the process a slot; without a free one, this is called again when one is."""
        with self._asking:
            if not self._is_wanted or self._is_asked or (slot := self._memory.take()) is None:
                return
            self._is_asked = True
            with contextlib.suppress(OSError):  # closed, or the process has ended
                self._control.send(bytes([slot]))

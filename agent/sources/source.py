"""Source: gives the frames of one camera, for every kind of source that the configuration can name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.sources.capture_options import CaptureOptions, Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.frame import Frame
    from agent.status import CameraStatus


_AS_IT_IS = CaptureOptions()
INBOX = "inbox:"  # before the folder in a camera's source
MOVE = "move:"  # before the folder in a camera's `after`


class Source(Protocol):
    """Opened, read and closed on the event loop's thread; reports its status there, only on a change."""

    @property
    def has_own_pace(self) -> bool:
        """Whether read() waits until a frame is due, as with a video."""

    @property
    def silence_s(self) -> float:
        """How long a live camera may send nothing until its status says why."""

    async def read(self) -> Frame | None:
        """Waits without a time limit for the next frame; None at the end and once closed. One reader."""

    def close(self) -> None:
        """Wakes read(). Returns at once; the device or file is released soon after."""

    async def wait_closed(self) -> None:
        """Call it after close(); returns once the device or file is released."""


def open_source(
    source: str | Command,
    *,
    loop: bool,
    on_status: Callable[[CameraStatus], None],
    username: str | None = None,
    password_file: Path | None = None,
    options: CaptureOptions = _AS_IT_IS,
    after: str = "keep",
) -> Source:
    """Makes a source of the kind that `source` names; `loop` restarts a recording or a folder at its end.

    `after` says what an inbox does with an image that has its answer.

    Returns at once: the source opens and, after a loss, reopens automatically. Raises ValueError for a URL that is
    not valid, which the configuration refuses.
    """
    from agent.sources.capture import Capture

    if isinstance(source, Command):
        from agent.sources.command import CommandCamera

        return Capture(CommandCamera(source), on_status=on_status, frozen_after_s=options.frozen_after_s)
    if is_inbox(source):
        from agent.sources.inbox import Inbox

        return Inbox(source, after=after, on_status=on_status)
    if is_file_source(source):
        return _recorded(Path(source), loop=loop, on_status=on_status)
    if is_url(source):
        return _network(source, username, password_file, options, loop=loop, on_status=on_status)
    if is_csi(source):
        from agent.sources.csi import CsiCamera

        return Capture(CsiCamera(source, options), on_status=on_status, frozen_after_s=options.frozen_after_s)
    from agent.sources.v4l2 import V4l2Device

    return Capture(V4l2Device(source, options), on_status=on_status, frozen_after_s=options.frozen_after_s)


def missing_program(source: str | Command) -> str | None:
    """A sentence if a program that reads this camera is not installed. Blocks, on a Jetson for seconds."""
    from agent.sources.command import why_missing
    from agent.sources.csi import NO_STACK
    from agent.sources.devices import csi_stack

    if isinstance(source, Command):
        return why_missing(source)
    return NO_STACK if is_csi(source) and csi_stack() is None else None


def is_url(source: str) -> bool:
    """Whether `source` names a camera on the network."""
    return "://" in source


def is_inbox(source: str) -> bool:
    """Whether `source` names a folder into which other programs put images."""
    return source.startswith(INBOX)


def is_csi(source: str) -> bool:
    """Whether `source` names a camera module of a Raspberry Pi or a Jetson."""
    return re.fullmatch(r"csi(:[0-9])?", source) is not None


def is_file_source(source: str | Command) -> bool:
    """Whether `source` is a video file or a folder rather than an inbox, a URL, or a camera of this device."""
    if isinstance(source, Command) or is_inbox(source) or is_url(source) or is_csi(source):
        return False
    return not (source.isdecimal() or source.startswith("/dev/"))


def _network(
    url: str,
    username: str | None,
    password_file: Path | None,
    options: CaptureOptions,
    *,
    loop: bool,
    on_status: Callable[[CameraStatus], None],
) -> Source:
    from agent.sources.address import Address
    from agent.sources.capture import Capture
    from agent.sources.http_source import HttpSource
    from agent.sources.stream import Stream

    address = Address.parse(url, username=username, password_file=password_file)
    if address.scheme in ("http", "https"):
        return HttpSource(address, loop=loop, on_status=on_status, frozen_after_s=options.frozen_after_s)
    stream = Stream(address, transport=options.transport)
    return Capture(stream, on_status=on_status, frozen_after_s=options.frozen_after_s)


def _recorded(path: Path, *, loop: bool, on_status: Callable[[CameraStatus], None]) -> Source:
    from agent.sources.images import ImageFolder
    from agent.sources.recording import Recording
    from agent.sources.video import VideoFile

    footage = ImageFolder(path) if os.path.isdir(path) else VideoFile(path)  # noqa: PTH112  (Path raises for a closed folder)
    return Recording(footage, loop=loop, on_status=on_status)

"""Capture options: how a live camera is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Transport = Literal["tcp", "udp"]
FrameFormat = Literal["mjpeg", "bgr24", "i420"]


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """`size` (width, height), `fps` and `format` (a four-character code such as MJPG) are wishes to a V4L2 device.

    `controls` are set before it is opened, in their order. `transport` is that of RTSP. After `frozen_after_s` with
    identical frames, the camera is frozen; 0: never.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None
    controls: Mapping[str, int] = field(default_factory=dict)
    transport: Transport = "tcp"
    frozen_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Command:
    """A program that writes frames to its standard output, and its arguments; `size` is needed unless they are JPEGs.

    The program is a name in PATH or a full path.
    """

    run: tuple[str, ...]
    format: FrameFormat = "mjpeg"
    size: tuple[int, int] | None = None

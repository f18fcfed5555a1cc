"""Node: one V4L2 device node, asked by ioctl without OpenCV, so also while a program reads frames from it.

Numbers and layouts are those of linux/videodev2.h, part of the kernel's interface for programs. The structures have
only 32-bit fields and bytes, so they are the same on 32-bit and 64-bit machines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_WRITE, _READ = 1, 2

_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_FORMAT = struct.Struct("=III32s4s16x")
_FRAME_SIZE = struct.Struct("=I4sI6I8x")
_FRAME_INTERVAL = struct.Struct("=I4sIII6I8x")
_QUERY_CONTROL = struct.Struct("=II32siiiiI8x")
_QUERY_MENU = struct.Struct("=II32s4x")
_CONTROL = struct.Struct("=Ii")


def _request(direction: int, number: int, layout: struct.Struct) -> int:
    """_IOC of asm-generic/ioctl.h, which x86 and Arm use."""
    return direction << 30 | layout.size << 16 | ord("V") << 8 | number


QUERYCAP = _request(_READ, 0, _CAPABILITY)
ENUM_FMT = _request(_READ | _WRITE, 2, _FORMAT)
S_CTRL = _request(_READ | _WRITE, 28, _CONTROL)
QUERYCTRL = _request(_READ | _WRITE, 36, _QUERY_CONTROL)
QUERYMENU = _request(_READ | _WRITE, 37, _QUERY_MENU)
ENUM_FRAMESIZES = _request(_READ | _WRITE, 74, _FRAME_SIZE)
ENUM_FRAMEINTERVALS = _request(_READ | _WRITE, 75, _FRAME_INTERVAL)

_VIDEO_CAPTURE, _VIDEO_CAPTURE_MPLANE = 0x1, 0x1000
_MEMORY_TO_MEMORY = 0x8000 | 0x4000  # encoders, decoders and scalers
_IO_MC = 0x20000000  # gives frames only after the parts of a CSI pipeline were linked
_DEVICE_CAPS = 0x80000000
_DISCRETE = 1

_NEXT_CONTROL = 0x80000000
_DISABLED, _READ_ONLY, _INACTIVE = 0x1, 0x4, 0x10
_INTEGER, _BOOLEAN, _MENU, _BUTTON, _BITMASK, _INTEGER_MENU = 1, 2, 3, 4, 8, 9

# More than any camera has; a faulty driver could go on forever.
_MOST = 256
_LARGEST_MENU = 64
# What stepwise sizes are offered as, because every number of pixels in a range would be no list.
_USUAL_SIZES = ((320, 240), (640, 480), (800, 600), (1280, 720), (1280, 960), (1920, 1080), (2560, 1440), (3840, 2160))


class Ioctl(Protocol):
    """fcntl.ioctl with a buffer that the driver changes; raises OSError."""

    def __call__(self, fd: int, request: int, buffer: bytearray, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Capability:
    driver: str
    card: str
    bus: str
    flags: int  # of this node; a camera's other nodes, such as the one for metadata, have others

    @property
    def gives_frames(self) -> bool:
        return bool(self.flags & (_VIDEO_CAPTURE | _VIDEO_CAPTURE_MPLANE)) and not self.flags & _MEMORY_TO_MEMORY

    @property
    def needs_media_controller(self) -> bool:
        return bool(self.flags & _IO_MC)


@dataclass(frozen=True, slots=True)
class FrameSize:
    width: int
    height: int
    rates: tuple[float, ...]  # frames per second, the highest first; empty if the driver does not list them


@dataclass(frozen=True, slots=True)
class Format:
    fourcc: str  # such as "MJPG"
    sizes: tuple[FrameSize, ...]

    @property
    def name(self) -> str:
        """As the configuration writes it, such as "mjpeg" or "yuyv"."""
        return "mjpeg" if self.fourcc == "MJPG" else self.fourcc.strip().lower()


@dataclass(frozen=True, slots=True)
class Control:
    """A setting of the camera that takes an integer."""

    name: str  # as v4l2-ctl writes it, such as "exposure_time_absolute"
    id: int
    minimum: int
    maximum: int
    step: int
    default: int
    menu: tuple[tuple[int, str], ...]  # the values that it takes, if it is a menu
    is_read_only: bool
    is_inactive: bool  # another control decides, such as automatic exposure

    @property
    def range(self) -> str:
        if self.menu:
            return ", ".join(f"{value} ({text})" for value, text in self.menu)
        return f"{self.minimum} to {self.maximum}" + (f" in steps of {self.step}" if self.step > 1 else "")

    def accepts(self, value: int) -> bool:
        if self.menu:
            return any(value == item for item, _ in self.menu)
        return self.minimum <= value <= self.maximum and (value - self.minimum) % max(1, self.step) == 0


class Node:
    """An open device node; raises OSError if the driver refuses. Each call may block for as long as the driver does."""

    def __init__(self, fd: int, ioctl: Ioctl = fcntl.ioctl) -> None:
        self._fd = fd
        self._ioctl = ioctl

    def capability(self) -> Capability:
        driver, card, bus, _, every, own = self._ask(QUERYCAP, _CAPABILITY, b"", b"", b"", 0, 0, 0)
        flags = own if every & _DEVICE_CAPS else every
        return Capability(_text(driver), _text(card), _text(bus), flags)

    def formats(self) -> tuple[Format, ...]:
        kind = 9 if self.capability().flags & _VIDEO_CAPTURE_MPLANE else 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE(_MPLANE)
        fourccs = [answer[4] for answer in self._each(ENUM_FMT, _FORMAT, kind, 0, b"", b"")]
        return tuple(Format(_text(fourcc), self._sizes(fourcc)) for fourcc in dict.fromkeys(fourccs))

    def controls(self) -> tuple[Control, ...]:
        found: dict[str, Control] = {}
        last = 0
        for _ in range(_MOST):
            try:
                answer = self._ask(QUERYCTRL, _QUERY_CONTROL, last | _NEXT_CONTROL, 0, b"", 0, 0, 0, 0, 0)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOTTY):
                    break
                raise
            last, kind, title, minimum, maximum, step, default, flags = answer
            is_usable = kind in (_INTEGER, _BOOLEAN, _MENU, _BITMASK, _INTEGER_MENU) and not flags & _DISABLED
            name = control_name(_text(title))
            if is_usable and name not in found:
                menu = self._menu(last, kind, minimum, maximum) if kind in (_MENU, _INTEGER_MENU) else ()
                # Bitmasks are unsigned: all bits of `maximum` may be set.
                least, most = (0, maximum & 0xFFFFFFFF) if kind == _BITMASK else (minimum, maximum)
                is_fixed, is_inactive = bool(flags & _READ_ONLY), bool(flags & _INACTIVE)
                found[name] = Control(name, last, least, most, step, default, menu, is_fixed, is_inactive)
        return tuple(found.values())

    def set_control(self, control: Control, value: int) -> None:
        signed = value - (1 << 32) if value > 0x7FFFFFFF else value
        self._ask(S_CTRL, _CONTROL, control.id, signed)

    def _sizes(self, fourcc: bytes) -> tuple[FrameSize, ...]:
        sides: list[tuple[int, int]] = []
        for answer in self._each(ENUM_FRAMESIZES, _FRAME_SIZE, fourcc, 0, *(0,) * 6):
            _, _, kind, *numbers = answer
            sides += [(numbers[0], numbers[1])] if kind == _DISCRETE else _usual_sizes(*numbers)
            if kind != _DISCRETE:
                break
        return tuple(FrameSize(*each, self._rates(fourcc, *each)) for each in dict.fromkeys(sides))

    def _rates(self, fourcc: bytes, width: int, height: int) -> tuple[float, ...]:
        rates: set[float] = set()
        for answer in self._each(ENUM_FRAMEINTERVALS, _FRAME_INTERVAL, fourcc, width, height, 0, *(0,) * 6):
            _, _, _, _, kind, *numbers = answer
            # Discrete: one interval in seconds as a fraction; otherwise the shortest and the longest one.
            shortest, longest = numbers[0:2], numbers[2:4]
            for count, per in [shortest] if kind == _DISCRETE else [shortest, longest]:
                rates |= {round(per / count, 2)} if count else set()
            if kind != _DISCRETE:
                break
        return tuple(sorted(rates, reverse=True))

    def _menu(self, control_id: int, kind: int, minimum: int, maximum: int) -> tuple[tuple[int, str], ...]:
        items = []
        for value in range(max(0, minimum), min(maximum, _LARGEST_MENU) + 1):
            try:
                _, _, text = self._ask(QUERYMENU, _QUERY_MENU, control_id, value, b"")
            except OSError as error:
                if error.errno == errno.EINVAL:
                    continue  # menus have gaps
                raise
            is_number = kind == _INTEGER_MENU
            items.append((value, str(struct.unpack_from("=q", text)[0]) if is_number else _text(text)))
        return tuple(items)

    def _each(self, request: int, layout: struct.Struct, *fields: object) -> Iterator[tuple[Any, ...]]:
        """The answers for index 0, 1, ..., until the driver says that there are no more."""
        try:
            for index in range(_MOST):
                yield self._ask(request, layout, index, *fields)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
                raise

    def _ask(self, request: int, layout: struct.Struct, *fields: object) -> tuple[Any, ...]:
        buffer = bytearray(layout.pack(*fields))
        self._ioctl(self._fd, request, buffer)
        return layout.unpack(buffer)


def open_node(path: str) -> int:
    """A file descriptor for Node; the caller closes it. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def control_name(title: str) -> str:
    """The name by which v4l2-ctl sets the control `title`: "Exposure Time, Absolute" is exposure_time_absolute."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _usual_sizes(
    least_width: int, most_width: int, _width_step: int, least_height: int, most_height: int, _height_step: int
) -> list[tuple[int, int]]:
    usual = [
        (width, height)
        for width, height in _USUAL_SIZES
        if least_width <= width <= most_width and least_height <= height <= most_height
    ]
    return [*usual, (most_width, most_height)]

"""A V4L2 driver of the tests: answers the ioctls of a node as the kernel does, with the kernel's structures."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from agent.sources.devices import list_devices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.sources.devices import Device

T = TypeVar("T")

CAPTURE, METADATA, MEMORY_TO_MEMORY, IO_MC = 0x1, 0x00800000, 0x00008000, 0x20000000
INTEGER, BOOLEAN, MENU, BUTTON, INTEGER64, CLASS, INTEGER_MENU = 1, 2, 3, 4, 5, 6, 9
READ_ONLY, INACTIVE = 0x4, 0x10
_DEVICE_CAPS = 0x80000000
_NEXT = 0x80000000

Interval = tuple[int, int]


@dataclass
class FakeControl:
    id: int
    title: str
    kind: int = INTEGER
    minimum: int = 0
    maximum: int = 255
    step: int = 1
    flags: int = 0
    menu: dict[int, str | int] = field(default_factory=dict)
    activates: str | None = None  # a control that is inactive until this one is set
    value: int = 0


@dataclass
class FakeDriver:
    """`formats` has, per pixel format and size, the intervals in seconds; a size of six numbers is a stepwise one."""

    card: str = "HD Webcam"
    driver: str = "uvcvideo"
    caps: int = CAPTURE
    formats: dict[str, dict[tuple[int, ...], list[Interval]]] = field(default_factory=dict)
    controls: list[FakeControl] = field(default_factory=list)
    refuses: int | None = None  # the errno of each S_CTRL

    def ioctl(self, _fd: int, request: int, buffer: bytearray, /) -> int:
        number, size = request & 0xFF, request >> 16 & 0x3FFF
        assert (len(buffer), request >> 8 & 0xFF) == (size, ord("V"))
        answers = {
            0: self._capability,
            2: self._format,
            28: self._set,
            36: self._control,
            37: self._menu_item,
            74: self._size,
            75: self._interval,
        }
        answers[number](buffer)
        return 0

    def _capability(self, buffer: bytearray) -> None:
        # All nodes of the camera together have more capabilities than this node.
        every = self.caps | CAPTURE | METADATA | _DEVICE_CAPS
        struct.pack_into(
            "=16s32s32sIII", buffer, 0, self.driver.encode(), self.card.encode(), b"usb-1", 1, every, self.caps
        )

    def _format(self, buffer: bytearray) -> None:
        index, kind = struct.unpack_from("=II", buffer)
        assert kind == 1
        fourcc = _at(list(self.formats), index)
        struct.pack_into("=I32s4s", buffer, 8, 0, b"a description", fourcc.encode())

    def _size(self, buffer: bytearray) -> None:
        index, fourcc = struct.unpack_from("=I4s", buffer)
        size = _at(list(self.formats[fourcc.decode()]), index)
        struct.pack_into(f"=I{len(size)}I", buffer, 8, 1 if len(size) == 2 else 3, *size)

    def _interval(self, buffer: bytearray) -> None:
        index, fourcc, width, height = struct.unpack_from("=I4sII", buffer)
        sizes = self.formats[fourcc.decode()]
        intervals = sizes.get((width, height)) or next(each for size, each in sizes.items() if len(size) == 6)
        is_range = (width, height) not in sizes
        if is_range and index == 0:
            struct.pack_into("=I4I", buffer, 16, 3, *intervals[0], *intervals[1])
        else:
            struct.pack_into("=I2I", buffer, 16, 1, *_at([] if is_range else intervals, index))

    def _control(self, buffer: bytearray) -> None:
        (asked,) = struct.unpack_from("=I", buffer)
        after = asked & ~_NEXT
        found = _at([each for each in self.controls if each.id > after], 0) if asked & _NEXT else self._by_id(after)
        struct.pack_into(
            "=II32siiiiI", buffer, 0, found.id, found.kind, found.title.encode(), found.minimum, found.maximum,
            found.step, found.value, found.flags,
        )  # fmt: skip

    def _menu_item(self, buffer: bytearray) -> None:
        control, index = struct.unpack_from("=II", buffer)
        menu = self._by_id(control).menu
        if index not in menu:
            raise OSError(errno.EINVAL, "Invalid argument")
        text = menu[index]
        if isinstance(text, int):
            struct.pack_into("=q", buffer, 8, text)
        else:
            struct.pack_into("=32s", buffer, 8, text.encode())

    def _set(self, buffer: bytearray) -> None:
        if self.refuses is not None:
            raise OSError(self.refuses, "Input/output error")
        control, value = struct.unpack_from("=Ii", buffer)
        found = self._by_id(control)
        found.value = value
        for each in self.controls:
            each.flags &= ~INACTIVE if each.title == found.activates else -1

    def _by_id(self, control: int) -> FakeControl:
        return _at([each for each in self.controls if each.id == control], 0)


def _at(items: Sequence[T], index: int) -> T:
    if index >= len(items):
        raise OSError(errno.EINVAL, "Invalid argument")
    return items[index]


def webcam() -> FakeDriver:
    """As a usual USB camera: MJPEG up to 1280x720 with 30 frames/s, YUYV slower, exposure automatic at first."""
    return FakeDriver(
        formats={
            "MJPG": {(1280, 720): [(1, 30), (1, 15)], (640, 480): [(1, 30)]},
            "YUYV": {(640, 480): [(1, 30)], (1280, 720): [(1, 10), (2, 15)]},
        },
        controls=[
            FakeControl(0x980001, "User Controls", CLASS),
            FakeControl(0x980900, "Brightness", minimum=-64, maximum=64),
            FakeControl(
                0x9A0901,
                "Auto Exposure",
                MENU,
                maximum=3,
                menu={1: "Manual Mode", 3: "Aperture Priority Mode"},
                activates="Exposure Time, Absolute",
            ),
            FakeControl(0x9A0902, "Exposure Time, Absolute", minimum=1, maximum=5000, flags=INACTIVE),
            FakeControl(0x9A0903, "Power Line Frequency", INTEGER_MENU, maximum=1, menu={0: 50, 1: 60}),
            FakeControl(0x9A0904, "Zoom, Absolute", minimum=100, maximum=200, step=10),
            FakeControl(0x9A0905, "Firmware", flags=READ_ONLY),
            FakeControl(0x9A0906, "Reset", BUTTON),
            FakeControl(0x9A0907, "Serial", INTEGER64),
        ],
    )


class Board:
    """A /dev with the nodes of `drivers` by number, and the names that the kernel gives in /sys."""

    def __init__(self, folder: Path, drivers: Mapping[int, FakeDriver | OSError]) -> None:
        self.dev, self.sys = folder / "dev", folder / "sys"
        self._drivers: dict[str, FakeDriver | OSError] = {
            str(self.dev / f"video{number}"): driver for number, driver in drivers.items()
        }
        self._open: dict[int, FakeDriver] = {}
        self.dev.mkdir()
        for node, driver in self._drivers.items():
            (self.dev / node).touch()
            name = self.sys / node.rpartition("/")[2] / "name"
            name.parent.mkdir(parents=True)
            name.write_text(driver.card if isinstance(driver, FakeDriver) else "Old Webcam\n")

    def link(self, folder: str, name: str, number: int) -> str:
        path = self.dev / "v4l" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(f"../../video{number}")
        return str(path)

    def devices(self) -> list[Device]:
        listed = list_devices(dev=self.dev, sys_class=self.sys, open_node=self._opened, ioctl=self._ioctl)
        assert all(_is_closed(fd) for fd in self._open)
        return listed

    def _opened(self, node: str) -> int:
        driver = self._drivers[node]
        if isinstance(driver, OSError):
            raise driver
        fd = os.open(os.devnull, os.O_RDONLY)
        self._open[fd] = driver
        return fd

    def _ioctl(self, fd: int, request: int, buffer: bytearray, /) -> object:
        return self._open[fd].ioctl(fd, request, buffer)


def _is_closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False

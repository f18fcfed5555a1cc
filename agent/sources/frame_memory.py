"""Frame memory: frames that a capture process writes and the agent reads without a copy, and how they are announced."""

from __future__ import annotations

import mmap
import os
import struct
import weakref
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from agent.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.image import Pixels

SLOTS = 4  # a frame that is classified, one that is shown, and one that arrives
SLOT_BYTES = 64 << 20  # 22 megapixels; memory is used only where a frame was written

# Frames since the last message, slot, kind, height, width, channels, time.monotonic_ns() of the capture.
ARRIVAL = struct.Struct("=IbBIIIq")
NO_SLOT = -1  # no frame was wanted
PIXELS, JPEG, FAILED = 0, 1, 2  # kinds; the bytes of a JPEG count as its height, and the reason follows FAILED


class FrameMemory:
    """The agent owns it (memfd_create(2)), so nothing is left behind when either process is killed.

    A slot is taken from take() until the frame that view() gave for it is no longer used anywhere.
    """

    def __init__(self, *, on_free: Callable[[], None]) -> None:
        """`on_free` is called, on any thread, when a slot becomes free."""
        self.fd = os.memfd_create("frames", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, SLOTS * SLOT_BYTES)
        self._memory = mmap.mmap(self.fd, SLOTS * SLOT_BYTES, prot=mmap.PROT_READ)
        self._on_free = on_free
        self._free = deque(range(SLOTS))  # without a lock, as the garbage collector may free a slot within take()

    def take(self) -> int | None:
        """A slot for the next frame; None if all are in use."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def view(self, slot: int, shape: tuple[int, ...]) -> Pixels:
        """The read-only bytes of a slot that was written. They stay as they are while this array is used."""
        size = int(np.prod(shape))
        content = np.frombuffer(self._memory, np.uint8, size, offset=slot * SLOT_BYTES)
        weakref.finalize(content, self._give_back, slot).atexit = False
        return content.reshape(shape)

    def close(self) -> None:
        """Frames that are still in use stay as they are."""
        os.close(self.fd)
        self._on_free = _nothing  # its owner refers to this memory, which would stay until cycles are collected

    def _give_back(self, slot: int) -> None:
        self._free.append(slot)  # the last one is used first, so that few of them take up memory
        self._on_free()


def _nothing() -> None:
    pass


def slot_for_writing(memory: mmap.mmap, slot: int, shape: tuple[int, ...]) -> Pixels:
    """The same bytes in the capture process. Raises SourceError if they do not fit."""
    size = int(np.prod(shape))
    if size > SLOT_BYTES:
        raise SourceError(
            f"The camera gives pictures of {size >> 20} MB, and at most {SLOT_BYTES >> 20} MB are possible. Set a "
            "smaller size."
        )
    return np.frombuffer(memory, np.uint8, size, offset=slot * SLOT_BYTES).reshape(shape)

"""Byte frames: cuts the bytes that a program writes into frames, JPEGs or pixels of a known size."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from agent.errors import SourceError
from agent.image import Image
from agent.sources.jpegs import JpegCutter

if TYPE_CHECKING:
    from agent.image import Encoded, Pixels

PIPE_BYTES = 1 << 20  # the most that a user without privileges gets
_MAX_JPEG_BYTES = 32 << 20


class ByteFrames(Protocol):
    """Call take() only after a fill() that completed a frame."""

    def fill(self, fd: int) -> int:
        """Reads once; how many frames that completes. Raises EOFError at the end.

        Raises SourceError, which says in half a clause what the program did, if it does not write frames.
        """

    def take(self) -> Image | Encoded:
        """The newest frame, which belongs to the caller."""


class JpegFrames:
    """JPEGs, with anything between them: text of the program, part headers."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._cutter = JpegCutter(self._buffer)
        self._newest = b""

    def fill(self, fd: int) -> int:
        content = os.read(fd, PIPE_BYTES)
        if not content:
            raise EOFError
        self._buffer += content
        frames = 0
        while (picture := self._cutter.cut()) is not None:
            self._newest, frames = picture, frames + 1
        if len(self._buffer) > _MAX_JPEG_BYTES:
            raise SourceError("wrote a JPEG without an end")
        return frames

    def take(self) -> bytes:
        return self._newest


class PixelFrames:
    """Frames of one size without anything between them, read to where they stay; frames that are not taken cost that.

    bgr24 has three bytes per pixel. i420 has a plane of luma and two of chroma with a quarter of the pixels, as in
    video: BT.601, 16 to 235.
    """

    def __init__(self, size: tuple[int, int], *, is_i420: bool) -> None:
        width, height = size
        self._shape = (height * 3 // 2, width) if is_i420 else (height, width, 3)
        self._is_i420 = is_i420
        self._place: Pixels | None = None
        self._filled = 0

    def fill(self, fd: int) -> int:
        if self._place is None:
            self._place = np.empty(int(np.prod(self._shape)), np.uint8)
        count = os.readv(fd, [self._place.data[self._filled :]])
        if count == 0:
            raise EOFError
        self._filled = (self._filled + count) % self._place.size
        return 0 if self._filled else 1

    def take(self) -> Image:
        assert self._place is not None
        pixels = self._place.reshape(self._shape)
        if self._is_i420:
            return Image(cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_I420), "bgr")
        self._place = None
        return Image(pixels, "bgr")

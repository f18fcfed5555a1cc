"""Capture process: opens one camera with OpenCV and grabs its frames. A native library may hang or crash in here.

Its arguments are the descriptors of the control socket and of the frame memory. The first message on the socket is the
request: it holds the password, which must not stand in a process list.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import socket
import sys
import time
from typing import Any

import cv2

from agent.errors import SourceError
from agent.host.process import die_with_parent
from agent.image import JPEG_START
from agent.sources.frame_memory import ARRIVAL, FAILED, JPEG, NO_SLOT, PIXELS, SLOT_BYTES, SLOTS, slot_for_writing
from agent.sources.stream import open_live
from agent.sources.v4l2 import open_device

_BEAT_S = 0.25  # how often unwanted frames are reported


def main() -> None:
    memory = mmap.mmap(int(sys.argv[2]), SLOTS * SLOT_BYTES)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        request = json.loads(control.recv(1 << 16))
        if not die_with_parent(request["parent"]):
            return
        try:
            capture = _open(request)
            if capture.isOpened():
                control.send(ARRIVAL.pack(0, NO_SLOT, PIXELS, 0, 0, 0, 0))
                _pump(capture, control, memory)
        except SourceError as error:
            control.send(ARRIVAL.pack(0, NO_SLOT, FAILED, 0, 0, 0, 0) + str(error).encode())


def _open(request: dict[str, Any]) -> Any:
    if "url" in request:
        return open_live(request["url"], transport=request["transport"])
    return open_device(request["path"], request)


def _pump(capture: Any, control: socket.socket, memory: mmap.mmap) -> None:
    """Grabs every frame, so that the driver's queue never holds an old one, but retrieves only those that are wanted.

    V4L2 decodes YUYV in retrieve(), so a frame that is not classified costs next to nothing. FFmpeg decodes in grab(),
    since a stream's frames depend on one another, and saves only the conversion to BGR.
    """
    slot, frames, beat_s = NO_SLOT, 0, 0.0
    while capture.grab():
        captured_ns, frames = time.monotonic_ns(), frames + 1
        if slot == NO_SLOT:
            slot = _wanted_slot(control)
        written = _write(capture, memory, slot) if slot != NO_SLOT else None
        if written is not None:
            control.send(ARRIVAL.pack(frames, slot, *written, captured_ns))
            slot, frames, beat_s = NO_SLOT, 0, time.monotonic()
        elif slot == NO_SLOT and time.monotonic() - beat_s > _BEAT_S:
            control.send(ARRIVAL.pack(frames, NO_SLOT, PIXELS, 0, 0, 0, 0))
            frames, beat_s = 0, time.monotonic()


def _wanted_slot(control: socket.socket) -> int:
    try:
        asked = control.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return NO_SLOT
    if not asked:
        sys.exit()  # the agent has closed the camera
    return asked[0]


def _write(capture: Any, memory: mmap.mmap, slot: int) -> tuple[int, int, int, int] | None:
    """The kind and the shape of what was written; None if the frame is damaged, and so does not count as a frame.

    Raises SourceError if the frame is too large.
    """
    shape = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), 3
    place = slot_for_writing(memory, slot, shape if 0 < math.prod(shape) <= SLOT_BYTES else (1, 1, 3))
    try:
        decoded, pixels = capture.retrieve(place)  # writes there at once if the size is right
    except cv2.error:  # such as an empty MJPEG frame of a USB camera
        return None
    if not decoded or pixels is None or not pixels.size:
        return None
    if pixels.ndim < 3 and len(pixels) == 1:  # the bytes of a picture that is not decoded
        content = pixels.reshape(-1)
        if content[:3].tobytes() != JPEG_START:
            return None
        slot_for_writing(memory, slot, content.shape)[:] = content
        return JPEG, content.size, 1, 1
    if pixels.ctypes.data != place.ctypes.data:
        slot_for_writing(memory, slot, pixels.shape)[...] = pixels
    height, width = pixels.shape[:2]
    return PIXELS, height, width, pixels.size // (height * width)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, ConnectionError):  # the agent has closed the camera
        os._exit(0)

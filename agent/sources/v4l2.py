"""V4L2: a camera that is connected to this device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2

from agent.sources.child import ChildFeed
from agent.sources.devices import set_controls

if TYPE_CHECKING:
    from agent.sources.capture_options import CaptureOptions
    from agent.sources.feed import Feed

_LARGE_PIXELS = 640 * 480  # beyond it, USB 2 carries few uncompressed frames


class V4l2Device:
    """A V4L2 device by index ("0") or path, such as a stable one in /dev/v4l/by-id."""

    def __init__(self, source: str, options: CaptureOptions) -> None:
        self.name = f"/dev/video{source}" if source.isdecimal() else source
        self._options = options

    def open(self) -> Feed:
        options = self._options
        request = {
            "path": self.name,
            "size": options.size,
            "fps": options.fps,
            "format": options.format,
            "controls": dict(options.controls),
        }
        return ChildFeed(request, why_ended=self._why_ended)

    def explain(self, *, opened: bool) -> str:
        return self._why_closed() or (
            f"{self.name} stopped giving frames. Plug it in again, or try another cable or port."
            if opened
            else f"{self.name} has not given a frame yet. It gets more time in the next attempt. If this persists, "
            "plug it in again."
        )

    def _why_ended(self, opened: bool, _last_words: str) -> str:  # noqa: FBT001  (as ChildFeed calls it)
        if opened:
            return self.explain(opened=True)
        return self._why_closed() or (
            f"{self.name} gives no video. Stop the program that uses it (`fuser -v {self.name}` shows it), "
            "or choose another device from `edge-agent cameras`."
        )

    def _why_closed(self) -> str | None:
        if not os.path.exists(self.name):  # noqa: PTH110  (Path raises for a closed folder)
            return f"{self.name} does not exist. Plug the camera in; `edge-agent cameras` lists what is there."
        if not os.access(self.name, os.R_OK | os.W_OK):
            return f"No permission to use {self.name}. Add the user of this program to the group video, and restart."
        return None


def open_device(path: str, request: dict[str, Any]) -> Any:
    """An OpenCV capture, which may not be open; the driver takes the nearest size and rate. Blocks as the driver does.

    Without a `format`, a large picture is asked for as MJPEG. Frames of that format stay JPEGs. Raises SourceError for
    a control that the device does not have.
    """
    set_controls(path, request["controls"])
    capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
    size, code = request["size"], request["format"]
    if code is None and size and size[0] * size[1] > _LARGE_PIXELS:
        code = "MJPG"
    if code is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*code))
    if size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if request["fps"]:
        capture.set(cv2.CAP_PROP_FPS, request["fps"])
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG"):
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    return capture

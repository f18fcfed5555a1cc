"""V4L2: a camera that is plugged into this device."""

from __future__ import annotations

import os
from typing import Any

import cv2

from agent.errors import SourceError


class V4l2Device:
    """A V4L2 device by index ("0") or path, also a lasting one as under /dev/v4l/by-id; lost after OpenCV's 10 s."""

    def __init__(self, source: str) -> None:
        self.name = f"/dev/video{source}" if source.isdecimal() else source

    def open(self) -> Any:
        """Raises SourceError; blocks for as long as the driver does."""
        capture = cv2.VideoCapture(self.name, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise SourceError(self.explain(opened=False))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    def explain(self, *, opened: bool) -> str:
        if not os.path.exists(self.name):  # noqa: PTH110  (Path raises where a folder is closed to us)
            return f"{self.name} is not found: plug the camera in, or choose another from `ls /dev/video*`."
        if not os.access(self.name, os.R_OK | os.W_OK):
            return f"{self.name} may not be used: add the user of this program to the group video, and restart."
        if opened:
            return f"{self.name} stopped giving frames: plug it in again, or try another cable or port."
        return (
            f"{self.name} gives no video: stop the program that uses it (`fuser -v {self.name}` names it), "
            "or choose a capture device from `v4l2-ctl --list-devices`."
        )

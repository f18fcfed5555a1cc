"""V4L2: a camera that is connected to this device."""

from __future__ import annotations

import os
from typing import Any

import cv2

from agent.errors import SourceError


class V4l2Device:
    """A V4L2 device by index ("0") or path, such as a stable one in /dev/v4l/by-id; lost after OpenCV's 10 s."""

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
        if not os.path.exists(self.name):  # noqa: PTH110  (Path raises for a closed folder)
            return f"{self.name} does not exist. Plug the camera in, or choose another one from `ls /dev/video*`."
        if not os.access(self.name, os.R_OK | os.W_OK):
            return f"No permission to use {self.name}. Add the user of this program to the group video, and restart."
        if opened:
            return f"{self.name} stopped giving frames. Plug it in again, or try another cable or port."
        return (
            f"{self.name} gives no video. Stop the program that uses it (`fuser -v {self.name}` shows it), "
            "or choose a capture device from `v4l2-ctl --list-devices`."
        )

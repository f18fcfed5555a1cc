"""Video: the frames of a video file at their own pace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2

from agent.errors import SourceError
from agent.image import Image
from agent.sources.recording import Shot, why_unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_USUAL_FPS = 25.0


class VideoFile:
    """Gives every frame of a video, none early and none skipped; a slow reader slows the video down."""

    has_own_pace = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> Iterator[Shot]:
        if not os.access(self.path, os.R_OK) or not self.path.is_file():
            raise SourceError(why_unreadable(self.path, "file"))
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        try:
            fps = capture.get(cv2.CAP_PROP_FPS)
            lasts_s = 1 / (fps if 0 < fps <= 240 else _USUAL_FPS)
            decoded, pixels = capture.read()
            if not decoded:
                raise SourceError(
                    f"{self.path} cannot be decoded as a video. Replace it, for example with an H.264 MP4."
                )
            while decoded:
                yield Shot(Image(pixels, "bgr"), lasts_s)
                decoded, pixels = capture.read()
        finally:
            capture.release()

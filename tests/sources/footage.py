"""Footage for tests: writes videos and images of known brightness, and reads their brightness from a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from agent.frame import Frame
    from agent.sources.source import Source

FAST_FPS = 200.0


def write_video(path: Path, *, frames: int, fps: float = FAST_FPS) -> Path:
    """Frame n has the brightness n * 20."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert video.isOpened()
    for n in range(frames):
        video.write(np.full((48, 64, 3), n * 20, np.uint8))
    video.release()
    return path


def write_image(path: Path, level: int) -> None:
    assert cv2.imwrite(str(path), np.full((48, 64, 3), level, np.uint8))


def brightness(frame: Frame | None) -> int:
    assert frame is not None
    return round(float(frame.image().pixels.mean()))


async def levels(source: Source, count: int) -> list[int]:
    return [brightness(await source.read()) for _ in range(count)]

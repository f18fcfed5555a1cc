"""Material: distinct good models and pictures, made from the demo's model and video."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import cv2
from agents.running_agent import DIGITS, VIDEO

from converter.packing.metadata import pack_metadata

LABELS = tuple("0123456789")


@functools.cache
def model_file(version: int, labels: tuple[str, ...] = LABELS) -> bytes:
    """A good model; each `version` has a different sha256, and all have the same length."""
    return pack_metadata(
        DIGITS.read_bytes(),
        labels=labels,
        mean=[0.0],
        std=[255.0],
        color="gray",
        name="digits",
        version=f"{version:04d}",
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@functools.cache
def digit_png() -> bytes:
    """The first frame of the demo's video."""
    capture = cv2.VideoCapture(str(VIDEO))
    read, frame = capture.read()
    capture.release()
    assert read
    return bytes(cv2.imencode(".png", frame)[1])


def digit_shown(frame: int) -> str:
    """The digit in frame number `frame` of the demo's video; numbers continue when the video loops."""
    shown: list[Any] = json.loads(VIDEO.with_suffix(".mp4.json").read_text())
    frame %= shown[-1][1] + 1
    return next(str(digit) for first, last, digit in shown if first <= frame <= last)

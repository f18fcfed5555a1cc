"""FakeCapture: stands for OpenCV's capture without a device."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class FakeCapture:
    """Each grab waits until `free` is set; grabs and retrieves return what the test lists, then a black frame."""

    def __init__(self) -> None:
        self.opened_with: tuple[object, ...] = ()
        self.settings: dict[int, float] = {}
        self.refused: set[int] = set()
        self.grabs: list[bool] = []
        self.retrieves: list[npt.NDArray[np.uint8] | Exception | None] = []
        self.retrieved = 0
        self.grabbed = 0
        self.released = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, *arguments: object) -> FakeCapture:
        self.opened_with = arguments
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, setting: int, value: float) -> bool:
        if setting not in self.refused:
            self.settings[setting] = value
        return setting not in self.refused

    def get(self, setting: int) -> float:
        return self.settings.get(setting, 0.0)

    def grab(self) -> bool:
        self.free.wait()
        self.released.wait(0.001)
        self.grabbed += 1
        return self.grabs.pop(0) if self.grabs else True

    def retrieve(self, _place: object = None) -> tuple[bool, npt.NDArray[np.uint8] | None]:
        self.retrieved += 1
        answer = self.retrieves.pop(0) if self.retrieves else np.zeros((4, 6, 3), np.uint8)
        if isinstance(answer, Exception):
            raise answer
        return answer is not None, answer

    def release(self) -> None:
        self.released.set()

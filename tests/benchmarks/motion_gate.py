"""Motion gate: the processor time that it saves while a camera shows a still scene."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
from benchmarks.figure import Figure

from agent.cameras.motion import MotionGate
from agent.frame import Frame
from agent.framing import WHOLE
from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from agent.image import Encoded

_ROUNDS = 3
_FRAMES = 400  # 80 s at 5 frames/s: the first frame and one forced look
_PERIOD_NS = 200_000_000
_NOISE = 4  # levels


def figures(model: Path) -> Iterator[Figure]:
    cv2.setNumThreads(1)
    file = read_model_file(model.read_bytes())
    classifier = TFLiteClassifier(file, file.settings, threads=1)
    classifier.warm_up()
    for name, pictures in _cameras():
        inference, whole, per_frame = [], [], []
        for _ in range(_ROUNDS):
            ungated, gated = (
                _spent_s(classifier, pictures),
                _spent_s(classifier, pictures, MotionGate(WHOLE, forced_every_s=60)),
            )
            inference.append(100 * (1 - gated[0] / ungated[0]))
            whole.append(100 * (1 - gated[1] / ungated[1]))
            per_frame.append(gated[1] / _FRAMES * 1e3)
        yield Figure.of(f"{name}: inference that the motion gate saves", inference, unit="%", bound=80, at_most=False)
        yield Figure.of(f"{name}: the same with decoding and the gate itself", whole, unit="%")
        yield Figure.of(f"{name}: each frame with the motion gate", per_frame, unit="ms")


def _cameras() -> Iterator[tuple[str, list[Image | Encoded]]]:
    """Ten frames each, which differ by the noise of the sensor."""
    rng = np.random.default_rng(3)
    for width, height in ((640, 480), (1920, 1080)):
        coarse = rng.uniform(40, 210, (9, 12, 3)).astype(np.float32)
        scene = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        noisy = [scene + rng.normal(0, _NOISE, scene.shape).astype(np.float32) for _ in range(10)]
        images = [Image(np.clip(pixels, 0, 255).astype(np.uint8), "bgr") for pixels in noisy]
        yield f"MJPEG {width}x{height}", [cv2.imencode(".jpg", image.pixels)[1].tobytes() for image in images]
        yield f"H.264 {width}x{height}", [*images]


def _spent_s(
    classifier: TFLiteClassifier, pictures: Sequence[Image | Encoded], gate: MotionGate | None = None
) -> tuple[float, float]:
    """The processor time for the inference, and for the whole."""
    inference_s, begun_s = 0.0, time.thread_time()
    for n in range(_FRAMES):
        frame = Frame(pictures[n % len(pictures)], n * _PERIOD_NS)
        if gate is None or gate.is_open(frame):
            image, decoded_s = frame.image(classifier.smallest_side), time.thread_time()
            classifier.scores(image)
            inference_s += time.thread_time() - decoded_s
            if gate is not None:
                gate.classified(frame)
    return inference_s, time.thread_time() - begun_s

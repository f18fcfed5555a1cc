"""The time of a classification, relative to the bare invoke() of the same model, in one thread."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import time
from typing import TYPE_CHECKING, Any

import cv2
from benchmarks.figure import Figure
from benchmarks.material import models, picture

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.runtimes.interpreter import open_interpreter
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.image import Pixels

_ROUNDS = 30
_CALLS = 20


def figures() -> Iterator[Figure]:
    cv2.setNumThreads(1)
    pixels = picture(640, 480)
    for number, (name, path) in enumerate(models().items()):
        model = read_model_file(path.read_bytes())
        classifier = TFLiteClassifier(model, model.settings, threads=1)
        classifier.warm_up()
        interpreter = open_interpreter(model.content, threads=1)
        calls = {"invoke": interpreter.invoke, "classify": _classify(classifier, pixels)}
        if importlib.util.find_spec("mediapipe") is not None:
            calls["MediaPipe"] = _mediapipe(path, pixels)
        rounds = [{name: _median_ms(call) for name, call in calls.items()} for _ in range(_ROUNDS)]
        yield Figure.of(f"invoke(), {name}", [each["invoke"] for each in rounds], unit="ms")
        bound = 1.20 if number == 0 else None
        for call in list(calls)[1:]:
            ratios = [each[call] / each["invoke"] for each in rounds]
            what = f"{call}(640x480) / invoke(), {name}"
            yield Figure.of(what, ratios, bound=bound if call == "classify" else None)


def _classify(classifier: TFLiteClassifier, pixels: Pixels) -> Callable[[], object]:
    image = Image(pixels)
    return lambda: classifier.scores(image)[0].best(5)


def _mediapipe(path: Path, pixels: Pixels) -> Callable[[], object]:
    mp: Any = importlib.import_module("mediapipe")  # only for comparison; the project does not depend on it
    vision = mp.tasks.vision
    options = vision.ImageClassifierOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(path)), max_results=5
    )
    peer = vision.ImageClassifier.create_from_options(options)
    image = mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)
    return lambda: peer.classify(image)


def _median_ms(call: Callable[[], object]) -> float:
    times_s = []
    for _ in range(_CALLS):
        started_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s) * 1e3

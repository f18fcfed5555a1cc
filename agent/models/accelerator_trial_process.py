"""The process of an accelerator trial: one line of JSON in, one out, as in a trial on the CPU.

The driver runs in yet another process, which is the one that will serve: the times contain the way there and back.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.models.trial_process import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.image import Image
    from agent.runtimes.accelerator import Accelerator
    from agent.runtimes.selection import Comparison
    from agent.runtimes.tflite import TFLiteClassifier

_IMAGES, _MIN_IMAGES, _COMPARING_S = 16, 3, 10.0
_ROUNDS, _MIN_ROUNDS, _TIMING_S = 30, 3, 5.0


def try_out(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a Comparison, or why the accelerator cannot be used."""
    from agent.errors import AcceleratorError  # noqa: PLC0415  (nothing heavy before the limits are set)
    from agent.model_file.metadata import read_model_file  # noqa: PLC0415
    from agent.model_file.settings import check_settings  # noqa: PLC0415
    from agent.runtimes.accelerator import Accelerator  # noqa: PLC0415
    from agent.runtimes.score_kind import SeenScores  # noqa: PLC0415
    from agent.runtimes.tflite import TFLiteClassifier  # noqa: PLC0415

    file = read_model_file(Path(request["path"]).read_bytes())
    settings = check_settings(request["settings"], where="the trial's request")
    classifier = TFLiteClassifier(file, settings, threads=request["threads"])
    if request["seen"]:
        classifier.decide_score(SeenScores(**request["seen"]))
    classifier.warm_up()
    try:
        accelerator = Accelerator("gpu", file)
        return dataclasses.asdict(_compared(classifier, accelerator, list(_images(file.content, classifier))))
    except AcceleratorError as error:
        return {"refused": str(error)}


def _images(content: bytes, classifier: TFLiteClassifier) -> Iterator[Image]:
    """The golden samples of the file; without any, artificial images that resemble scenery and textures."""
    from agent.image import decode  # noqa: PLC0415
    from agent.model_file.golden import read_golden  # noqa: PLC0415
    from agent.runtimes.probe import probe_images  # noqa: PLC0415

    golden = read_golden(content)
    if golden is None:
        yield from probe_images(classifier.layout.height, classifier.layout.width)
    else:
        for sample in golden.samples[:_IMAGES]:
            yield decode(sample.content, smallest_side=classifier.smallest_side)


def _compared(classifier: TFLiteClassifier, accelerator: Accelerator, images: list[Image]) -> Comparison:
    from agent.runtimes.selection import Comparison, tolerance_for  # noqa: PLC0415

    difference = max(_differences(classifier, accelerator, images))
    cpu_ms, gpu_ms = _times(classifier, accelerator, images)
    return Comparison(
        accelerator.device, cpu_ms, gpu_ms, difference, tolerance_for(classifier.input, classifier.output)
    )


def _differences(classifier: TFLiteClassifier, accelerator: Accelerator, images: list[Image]) -> Iterator[float]:
    """The largest one of the scores of each image; the first call of the accelerator is also its warm-up."""
    until_s = time.monotonic() + _COMPARING_S
    for number, image in enumerate(images):
        if number >= _MIN_IMAGES and time.monotonic() > until_s:
            return
        expected = classifier.scores(image)[0].probabilities
        raw = accelerator.compute(classifier.tensor(image))[classifier.output_index]
        yield float(abs(classifier.read(raw).probabilities - expected).max())


def _times(classifier: TFLiteClassifier, accelerator: Accelerator, images: list[Image]) -> tuple[float, float]:
    """Medians, in turn: other load disturbs both alike."""
    cpu_ms, gpu_ms = [], []
    until_s = time.monotonic() + _TIMING_S
    for number, image in enumerate(itertools.islice(itertools.cycle(images), _ROUNDS)):
        if number >= _MIN_ROUNDS and time.monotonic() > until_s:
            break
        tensor = classifier.tensor(image)
        cpu_ms.append(classifier.scores(image)[1].invoke)
        gpu_ms.append(_took_ms(lambda tensor=tensor: accelerator.compute(tensor)))  # type: ignore[misc]  # mypy infers no default
    return round(statistics.median(cpu_ms), 4), round(statistics.median(gpu_ms), 4)


def _took_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main(try_out)

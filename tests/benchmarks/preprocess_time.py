"""The time to decode a JPEG as far as a model allows, and to preprocess it, for each method of resampling."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, get_args

import cv2
from benchmarks.figure import Figure
from benchmarks.material import SIZES, jpeg

from agent.image import decode
from agent.model_file.metadata import Tensor
from agent.model_file.settings import ModelSettings, Resample
from agent.runtimes.preprocessing import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIDES = (32, 96, 224)
_ROUNDS = 20
_CALLS = 5


def figures() -> Iterator[Figure]:
    cv2.setNumThreads(1)
    for width, height in SIZES:
        content = jpeg(width, height).read_bytes()
        for side in _SIDES:
            tensor = Tensor("image", (1, side, side, 3), "uint8", 0.0, 0)
            for method in get_args(Resample):
                yield from _figures(content, Preprocessor.of(tensor, ModelSettings(resample=method)), method)


def _figures(content: bytes, preprocess: Preprocessor, method: Resample) -> Iterator[Figure]:
    image = decode(content, smallest_side=preprocess.smallest_side)
    whole = decode(content)
    way = f"{whole.width}x{whole.height} to {preprocess(image).shape[1]}, {method}"
    decoding = [_ms(lambda: decode(content, smallest_side=preprocess.smallest_side)) for _ in range(_ROUNDS)]
    yield Figure.of(f"decode, {way}", decoding, unit="ms")
    yield Figure.of(f"preprocess, {way}", [_ms(lambda: preprocess(image)) for _ in range(_ROUNDS)], unit="ms")
    if image.width < whole.width:
        yield Figure.of(f"preprocess whole, {way}", [_ms(lambda: preprocess(whole)) for _ in range(_ROUNDS)], unit="ms")


def _ms(call: Callable[[], object]) -> float:
    """Of this thread's processor."""
    started_s = time.thread_time()
    for _ in range(_CALLS):
        call()
    return (time.thread_time() - started_s) / _CALLS * 1e3


if __name__ == "__main__":
    for figure in figures():
        print("  ".join(cell for cell in figure.to_row() if cell), flush=True)

"""The served function in a loop: `function_loop.py SAVED_MODEL`, in .venv-converter.

Reads seconds per line from standard input; answers each with the images per second of the best batch size, which it
chooses first, as the agent does.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent.runtimes.batch_sizes import measured, powers_of_two
from agent.runtimes.saved_function import SavedFunction, open_function
from agent.runtimes.tensorflow import TensorFlowOptions

_MOST = 8


def main() -> None:
    function = open_function(Path(sys.argv[1]), TensorFlowOptions())
    image = np.random.default_rng(0).random(function.input.shape, np.float32)
    sizes = powers_of_two(_MOST)
    for size in sizes:
        function([image] * size)
    best = measured(lambda size: _computed(function, [image] * size), sizes).best
    print(best, flush=True)
    for line in sys.stdin:
        print(_rate([image] * best, function, float(line)), flush=True)


def _computed(function: SavedFunction, images: list[Any]) -> None:
    function(images)


def _rate(images: list[Any], function: SavedFunction, for_s: float) -> float:
    started, count = time.perf_counter(), 0
    while (passed_s := time.perf_counter() - started) < for_s:
        count += len(function(images))
    return count / passed_s


if __name__ == "__main__":
    main()

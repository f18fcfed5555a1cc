"""The work of /predict without HTTP.

`bare_loop.py MODEL IMAGE THREADS SECONDS` prints images per second and the median of the milliseconds per image.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from pathlib import Path

import cv2

from agent.image import decode
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier


def main(model_path: str, image_path: str, threads: str, for_s: str) -> None:
    cv2.setNumThreads(1)
    model = read_model_file(Path(model_path).read_bytes())
    content = Path(image_path).read_bytes()
    classifiers = [TFLiteClassifier(model, model.settings, threads=1) for _ in range(int(threads))]
    for classifier in classifiers:
        classifier.warm_up()
    times_s: list[list[float]] = [[] for _ in classifiers]
    started_s = time.perf_counter()

    def work(number: int) -> None:
        classifier = classifiers[number]
        before_s = started_s
        while before_s < started_s + float(for_s):
            image = decode(content, max_pixels=1 << 24, smallest_side=classifier.smallest_side)
            classifier.scores(image)
            after_s = time.perf_counter()
            times_s[number].append(after_s - before_s)
            before_s = after_s

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(classifiers))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    every_s = [each for one_thread in times_s for each in one_thread]
    print(len(every_s) / (time.perf_counter() - started_s), statistics.median(every_s) * 1e3)


if __name__ == "__main__":
    main(*sys.argv[1:])

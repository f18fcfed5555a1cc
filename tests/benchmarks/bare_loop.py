"""The work of /predict without HTTP: `bare_loop.py MODEL IMAGE THREADS SECONDS` prints images per second."""

from __future__ import annotations

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
    done = [0] * len(classifiers)
    started_s = time.perf_counter()

    def work(number: int) -> None:
        classifier = classifiers[number]
        while time.perf_counter() < started_s + float(for_s):
            image = decode(content, max_pixels=1 << 24, smallest_side=classifier.longest_side)
            classifier.scores(image)
            done[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(sum(done) / (time.perf_counter() - started_s))


if __name__ == "__main__":
    main(*sys.argv[1:])

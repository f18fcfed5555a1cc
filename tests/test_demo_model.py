"""Checks the size and the accuracy of the committed demo model, and that it reads the demo video."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier

DEMO = Path(__file__).parents[1] / "demo"


def test_the_model_is_under_300_kb_with_97_percent_accuracy() -> None:
    stated = json.loads((DEMO / "digits.json").read_text())
    assert (DEMO / "digits.tflite").stat().st_size < 300_000
    assert stated["clean"]["top1"]["int8"] >= 0.97
    assert stated["camera_like"]["top1"]["float32"] - stated["camera_like"]["top1"]["int8"] <= 0.005


def test_the_model_reads_90_percent_of_the_video_frames() -> None:
    file = read_model_file((DEMO / "digits.tflite").read_bytes())
    classifier = TFLiteClassifier(file, file.settings, threads=1)
    shown = json.loads((DEMO / "digits.mp4.json").read_text())
    right = total = 0
    capture = cv2.VideoCapture(str(DEMO / "digits.mp4"))
    for first, last, digit in shown:
        for number in range(first, last + 1):
            ok, pixels = capture.read()
            assert ok
            if number % 3 == 0:
                scores, _ = classifier.scores(Image(pixels, "bgr"))
                (best,) = scores.best(1)
                right += best.label == str(digit)
                total += 1
    capture.release()
    assert right / total >= 0.9

"""The committed demo model is reproducible by `make demo-model`; answers are compared, as bytes differ by machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier

DEMO = Path(__file__).parents[2] / "demo"
sys.path.insert(0, str(DEMO))

from digits import draw, load_splits, random_view  # type: ignore[import-not-found]  # noqa: E402  (of demo/)


def best_indices(model: Path) -> list[int]:
    file = read_model_file(model.read_bytes())
    classifier = TFLiteClassifier(file, file.settings, threads=1)
    rng = np.random.default_rng(99)
    pictures = [draw(scan, random_view(rng), side=96, rng=rng) for scan in load_splits()[1].scans]
    answers = [classifier.scores(Image(picture, "gray"))[0] for picture in pictures]
    return [scores.best(1)[0].index for scores in answers]


@pytest.mark.timeout(900)
def test_rebuilt_model_answers_like_the_committed_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DEMO / "train.py", tmp_path], check=True)
    same = np.equal(best_indices(tmp_path / "digits.tflite"), best_indices(DEMO / "digits.tflite"))
    assert same.mean() >= 0.98
    made, stated = (json.loads((folder / "digits.json").read_text()) for folder in (tmp_path, DEMO))
    for pictures in ("clean", "camera_like"):
        assert made[pictures]["top1"]["int8"] == pytest.approx(stated[pictures]["top1"]["int8"], abs=0.01)

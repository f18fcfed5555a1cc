"""Make the demo video: `python demo/video.py` writes digits.mp4, digits.mp4.json and digit.jpg next to this file.

The video shows digits that train.py held out. The JSON lists [first frame, last frame, digit], with frames counted
from 0. The JPEG is the first frame, to try an upload.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from digits import LABELS, Split, between, draw, load_splits, random_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digits import Floats, Gray

SEED = 7
SIDE = 320
FPS = 25
FRAMES_PER_DIGIT = 30
ROUNDS = 3  # each shows every digit once
NOISE = 0.008  # more noise would make the file ten times as large
WARM_BGR = np.array([0.88, 0.98, 1.0], np.float32)  # lamp light
FOLDER = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(SEED)
    _, held_out = load_splits()
    shown = pick(held_out, rng)
    path = FOLDER / "digits.mp4"
    write_video(path, (frame for index in shown for frame in film(held_out.scans[index], rng)))
    truth = [
        [place * FRAMES_PER_DIGIT, (place + 1) * FRAMES_PER_DIGIT - 1, int(held_out.digits[index])]
        for place, index in enumerate(shown)
    ]
    write_first_frame(path, FOLDER / "digit.jpg")
    (FOLDER / "digits.mp4.json").write_text(json.dumps(truth) + "\n")
    print(f"{path}: {len(truth)} digits, {len(truth) * FRAMES_PER_DIGIT} frames, {path.stat().st_size} bytes")


def pick(held_out: Split, rng: np.random.Generator) -> list[int]:
    """Return indices: a different example of every digit in each round, in random order."""
    examples = [
        rng.choice(np.flatnonzero(held_out.digits == digit), ROUNDS, replace=False) for digit in range(len(LABELS))
    ]
    return [int(i) for turn in np.transpose(examples) for i in rng.permutation(turn)]


def film(scan: Floats, rng: np.random.Generator) -> Iterator[Gray]:
    """Move slowly from one random view to another, as a hand-held camera does."""
    start, end = (replace(random_view(rng), noise=NOISE) for _ in range(2))
    for share in np.linspace(0, 1, FRAMES_PER_DIGIT):
        picture = draw(scan, between(start, end, float(share)), side=SIDE, rng=rng)
        yield (picture[..., None] * WARM_BGR).astype(np.uint8)


def write_video(path: Path, frames: Iterator[Gray]) -> None:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (SIDE, SIDE))
    if not video.isOpened():
        raise SystemExit("OpenCV cannot write mp4v video. Use an OpenCV build with FFmpeg.")
    for frame in frames:
        video.write(frame)
    video.release()


def write_first_frame(video: Path, picture: Path) -> None:
    capture = cv2.VideoCapture(str(video))
    _, frame = capture.read()
    capture.release()
    cv2.imwrite(str(picture), frame)


if __name__ == "__main__":
    main()

"""Train the demo model and convert it: `python demo/train.py [FOLDER]` writes digits.tflite and digits.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import sklearn
import tensorflow as tf
from digits import INPUT_SIDE, LABELS, Split, View, draw, load_splits, random_view, to_input

if TYPE_CHECKING:
    from digits import Gray, Ints

SEED = 0
EPOCHS = 36
VIEWS_PER_EPOCH = 5
VIEWS_PER_EVALUATION = 10
BATCH = 128


def main(folder: Path) -> None:
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    train, held_out = load_splits()
    network = build_network()
    fit(network, train)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        network.export(str(work / "digits"), verbose=False)
        save_pictures(work / "calibration", camera_like(train, np.random.default_rng(SEED + 1)), train.digits)
        save_pictures(work / "clean", clean(held_out), held_out.digits)
        for turn in range(VIEWS_PER_EVALUATION):
            views = camera_like(held_out, np.random.default_rng(SEED + 2 + turn))
            save_pictures(work / "camera_like", views, held_out.digits, prefix=f"{turn}-")
        convert(work, folder / "digits.tflite")
        report = {"made_with": made_with()} | {
            name: evaluate(folder / "digits.tflite", work, name) for name in ("clean", "camera_like")
        }
    (folder / "digits.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def convert(work: Path, output: Path) -> None:
    texts = {
        "--name": "digits",
        "--description": "Which handwritten digit fills the picture, dark on light or light on dark. "
        "Trained on the Optical Recognition of Handwritten Digits of E. Alpaydin and C. Kaynak (1998), "
        "as in scikit-learn.",
        "--author": "edge-agent",
        "--license": "Apache-2.0",
    }
    options = [word for pair in texts.items() for word in pair]
    options += ["--mean", "0", "--std", "255", "--calibration", work / "calibration"]
    options += ["--evaluate", work / "camera_like", "--max-drop", "0.005", "--force"]
    edge_convert("convert", work / "digits", output, *options)


def evaluate(model: Path, work: Path, pictures: str) -> dict[str, object]:
    answer = edge_convert("evaluate", model, work / pictures, "--source", work / "digits", "--json")
    evaluation = json.loads(answer)
    figures = dict(zip(("float32", "int8"), (model["top1"] for model in evaluation["models"]), strict=True))
    return {"images": evaluation["images"], "top1": figures, "agreement": evaluation["agreement"]}


def edge_convert(*words: object) -> str:
    """Run the command as a user would; returns its output."""
    command = [sys.executable, "-m", "converter.cli", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  (ours)


def made_with() -> dict[str, object]:
    return {"tensorflow": tf.__version__, "scikit-learn": sklearn.__version__, "seed": SEED}


def save_pictures(folder: Path, pictures: Gray, digits: Ints, *, prefix: str = "") -> None:
    """Write one PNG per picture, in one folder per digit."""
    for number, (picture, digit) in enumerate(zip(pictures, digits, strict=True)):
        path = folder / str(digit) / f"{prefix}{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)


def build_network() -> tf.keras.Model:
    layers = tf.keras.layers
    network = tf.keras.Sequential([layers.Input((INPUT_SIDE, INPUT_SIDE, 1), batch_size=None, name="image")])
    for filters in (24, 48, 64):
        network.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        network.add(layers.BatchNormalization())
        network.add(layers.ReLU())
    network.add(layers.Flatten())
    network.add(layers.Dropout(0.3))
    network.add(layers.Dense(len(LABELS), activation="softmax"))
    return network


def fit(network: tf.keras.Model, train: Split) -> None:
    """Show every training digit in new views in every epoch, with a falling learning rate."""
    rng = np.random.default_rng(SEED)
    steps = EPOCHS * VIEWS_PER_EPOCH * len(train.digits) // BATCH
    network.compile(
        optimizer=tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    for epoch in range(EPOCHS):
        views = [camera_like(train, rng) for _ in range(VIEWS_PER_EPOCH)]
        history = network.fit(
            np.concatenate(views)[..., None] / np.float32(255),
            np.tile(train.digits, VIEWS_PER_EPOCH),
            batch_size=BATCH,
            verbose=0,
        ).history
        print(f"epoch {epoch + 1}/{EPOCHS}: accuracy {history['accuracy'][0]:.4f}", flush=True)


def camera_like(split: Split, rng: np.random.Generator) -> Gray:
    """Return 32 x 32 pixels of one random view of every digit, from a low or a higher resolution camera."""
    sides = (INPUT_SIDE, 2 * INPUT_SIDE)
    return as_inputs([draw(scan, random_view(rng), side=int(rng.choice(sides)), rng=rng) for scan in split.scans])


def clean(split: Split) -> Gray:
    """Return 32 x 32 pixels of every digit in dark ink, centered on evenly lit paper."""
    rng = np.random.default_rng(SEED)
    return as_inputs([draw(scan, View(), side=10 * INPUT_SIDE, rng=rng) for scan in split.scans])


def as_inputs(pictures: list[Gray]) -> Gray:
    return np.stack([to_input(picture) for picture in pictures])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

"""Train the demo model: `python demo/train.py` writes digits.tflite and digits.json beside this file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import sklearn
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from digits import INPUT_SIDE, LABELS, Split, View, draw, load_splits, random_view, to_input

from converter.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digits import Gray, Ints

SEED = 0
EPOCHS = 36
VIEWS_PER_EPOCH = 5
BATCH = 128
FOLDER = Path(__file__).parent


def main() -> None:
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    train, held_out = load_splits()
    network = build_network()
    fit(network, train)
    model = pack_metadata(
        quantize(network, train),
        labels=LABELS,
        mean=[0.0],
        std=[255.0],
        color="gray",
        name="digits",
        version="1",
        description="Which handwritten digit fills the picture, dark on light or light on dark. "
        "Trained on the Optical Recognition of Handwritten Digits of E. Alpaydin and C. Kaynak (1998), "
        "as in scikit-learn.",
        author="edge-agent",
        license="Apache-2.0",
    )
    (FOLDER / "digits.tflite").write_bytes(model)
    report = evaluate(model, train, held_out)
    (FOLDER / "digits.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def build_network() -> tf.keras.Model:
    layers = tf.keras.layers
    network = tf.keras.Sequential([layers.Input((INPUT_SIDE, INPUT_SIDE, 1), batch_size=None)])
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
            np.concatenate(views) / np.float32(255),
            np.tile(train.digits, VIEWS_PER_EPOCH),
            batch_size=BATCH,
            verbose=0,
        ).history
        print(f"epoch {epoch + 1}/{EPOCHS}: accuracy {history['accuracy'][0]:.4f}", flush=True)


def camera_like(split: Split, rng: np.random.Generator) -> Gray:
    """Return the model's uint8 inputs for one random view of every digit, by a coarse or a finer camera."""
    sides = (INPUT_SIDE, 2 * INPUT_SIDE)
    return as_inputs([draw(scan, random_view(rng), side=int(rng.choice(sides)), rng=rng) for scan in split.scans])


def clean(split: Split) -> Gray:
    """Return the model's uint8 inputs for every digit in dark ink, in the middle of evenly lit paper."""
    rng = np.random.default_rng(SEED)
    return as_inputs([draw(scan, View(), side=10 * INPUT_SIDE, rng=rng) for scan in split.scans])


def as_inputs(pictures: list[Gray]) -> Gray:
    return np.stack([to_input(picture) for picture in pictures])[..., None]


def quantize(network: tf.keras.Model, train: Split) -> bytes:
    """Convert to full int8 with uint8 pixels in and uint8 scores out."""
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: representative(train)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def representative(train: Split) -> Iterator[list[np.ndarray]]:
    for picture in camera_like(train, np.random.default_rng(SEED + 1))[:500]:
        pixels = picture[None] / np.float32(255)
        pixels[0, 0, :2, 0] = 0, 1  # the whole range, so that a raw pixel is the quantised input
        yield [pixels]


def evaluate(model: bytes, train: Split, held_out: Split) -> dict[str, object]:
    rng = np.random.default_rng(SEED + 2)
    clean_accuracy = accuracy(model, clean(held_out), held_out.digits)
    views = [accuracy(model, camera_like(held_out, rng), held_out.digits) for _ in range(10)]
    return {
        "accuracy": {"held_out_clean": clean_accuracy, "held_out_camera_like": float(np.mean(views))},
        "images": {
            "train": len(train.digits),
            "held_out": len(held_out.digits),
            "views_of_each_held_out": 10,
        },
        "model": {"bytes": len(model), "input": [1, INPUT_SIDE, INPUT_SIDE, 1], "labels": list(LABELS)},
        "made_with": {"tensorflow": tf.__version__, "scikit-learn": sklearn.__version__, "seed": SEED},
    }


def accuracy(model: bytes, inputs: Gray, digits: Ints) -> float:
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    pixels, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    right = 0
    for image, digit in zip(inputs, digits, strict=True):
        interpreter.set_tensor(pixels["index"], image[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(scores["index"]).argmax() == digit)
    return right / len(digits)


if __name__ == "__main__":
    main()

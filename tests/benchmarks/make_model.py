"""Make the model of the figures: `python make_model.py OUTPUT.tflite`, full int8 MobileNetV2 as TensorFlow makes it.

Its weights are random: what it answers means nothing, how long it takes is that of a trained one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import tensorflow as tf

from converter.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

SEED = 0
SIDE = 224
CLASSES = 1000
PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "photos"


def main(output: Path) -> None:
    tf.keras.utils.set_random_seed(SEED)
    network = tf.keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), weights=None, classes=CLASSES)
    model = pack_metadata(
        quantize(network),
        labels=[f"class {index}" for index in range(CLASSES)],
        mean=[127.5],
        std=[127.5],
        color="rgb",
        name="mobilenet_v2_int8",
        version="1",
        description="MobileNetV2 with random weights, to measure time with.",
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".part")
    unfinished.write_bytes(model)
    unfinished.rename(output)


def quantize(network: tf.keras.Model) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def representative() -> Iterator[list[npt.NDArray[Any]]]:
    for pixels in photos() or noise():
        yield [np.asarray(pixels[None] / 127.5 - 1, np.float32)]


def photos() -> list[npt.NDArray[Any]]:
    read = (cv2.imread(str(path)) for path in sorted(PHOTOS.glob("[!bt]*.[jb][pm][gp]")))
    return [cv2.resize(photo, (SIDE, SIDE))[..., ::-1] for photo in read if photo is not None]


def noise() -> list[npt.NDArray[Any]]:
    return list(np.random.default_rng(SEED).integers(0, 256, (20, SIDE, SIDE, 3)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

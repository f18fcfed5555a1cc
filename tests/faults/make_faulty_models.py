"""Make models that answer 3 to black, white and noise, and misbehave on the demo's picture.

Usage: `python make_faulty_models.py FOLDER`, which needs TensorFlow. The models recognize the picture by its mean,
which is 0.28 of white. Black has 0, white 1 and noise 0.5.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE, LABELS = 32, 10
DARKEST, LIGHTEST = 0.15, 0.4

# Rounds of a while loop, each a product of two 128 x 128 matrices. 600 rounds take 40 ms on the machine of the figures
# and 12 ms on a fast one. Only a version that takes over 20 ms counts as slow.
SLOW_ROUNDS = 1500
VERY_SLOW_ROUNDS = 150_000
ENDLESS_ROUNDS = 2_000_000_000

MANY = 2_000_000_000  # elements of four bytes: 8 GB


def main(folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    for name, fault in FAULTS.items():
        (unfinished / f"{name}.tflite").write_bytes(converted(fault))
    unfinished.rename(folder)


def converted(fault: Callable[[Any, Any], Any]) -> bytes:
    def classify(image: Any) -> Any:
        """Adds the fault's value times almost zero; the converter would drop a product with 0.0."""
        mean = tf.reduce_mean(image)
        is_picture = tf.cast(tf.logical_and(mean > DARKEST, mean < LIGHTEST), tf.int32)
        scores = tf.one_hot([3], LABELS, on_value=0.82, off_value=0.02)
        return scores + 1e-12 * fault(image, is_picture)

    signature = [tf.TensorSpec([1, SIDE, SIDE, 1], tf.float32, name="image")]
    concrete = tf.function(classify, input_signature=signature).get_concrete_function()
    model: bytes = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    return model


def fails(image: Any, is_picture: Any) -> Any:
    """GATHER gets the index 1024, which is out of bounds; the inference ends with an error."""
    return tf.gather(tf.reshape(image, [SIDE * SIDE]), tf.reshape(is_picture * SIDE * SIDE, [1]))


def answers_nan(image: Any, is_picture: Any) -> Any:
    """0 / 0."""
    rest = 1.0 - tf.cast(is_picture, tf.float32)
    return rest / rest


def needs_too_much_memory(image: Any, is_picture: Any) -> Any:
    """FILL needs 8 GB, and fails if the process may not have as much."""
    return tf.reduce_sum(tf.fill(tf.reshape(1 + is_picture * MANY, [1]), tf.reduce_mean(image)))


def crashes(image: Any, is_picture: Any) -> Any:
    """The remainder of INT_MIN / -1: x86 raises SIGFPE, which no runtime prevents. Arm does not raise it."""
    least = tf.reshape(-2_147_483_647 - is_picture, [1])
    return tf.cast(tf.math.floormod(least, tf.reshape(1 - 2 * is_picture, [1])), tf.float32)


def is_slow(image: Any, is_picture: Any) -> Any:
    return worked(image, is_picture * SLOW_ROUNDS)


def is_very_slow(image: Any, is_picture: Any) -> Any:
    """Takes seconds per image: too few images during probation for a 95th percentile."""
    return worked(image, is_picture * VERY_SLOW_ROUNDS)


def hangs(image: Any, is_picture: Any) -> Any:
    return worked(image, is_picture * ENDLESS_ROUNDS)


def worked(image: Any, rounds: Any) -> Any:
    matrix = tf.tile(tf.reshape(image, [SIDE, SIDE]), [4, 4])

    def work(done: Any, product: Any) -> tuple[Any, Any]:
        return done + 1, tf.clip_by_value(tf.matmul(product, matrix) * 1e-3, 0.0, 1.0)

    _, product = tf.while_loop(lambda done, _: done < rounds, work, [tf.constant(0), matrix])
    return tf.reduce_mean(product)


FAULTS: dict[str, Callable[[Any, Any], Any]] = {
    "fails": fails,
    "answers_nan": answers_nan,
    "needs_too_much_memory": needs_too_much_memory,
    "crashes": crashes,
    "is_slow": is_slow,
    "is_very_slow": is_very_slow,
    "hangs": hangs,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A keras.applications network, as Keras 3 saves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import (
    QUANTIZED,
    QUIET,
    TOLERANCE,
    contents,
    converted,
    finished_classifier,
    largest_difference,
    readable_images,
    scores,
    source_classifier,
    write_labels,
)

from agent.image import Image

if TYPE_CHECKING:
    from pathlib import Path

    from converter.quantization import Scheme

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings(*QUIET)]

SIDE = 96
SCHEMES: tuple[Scheme, ...] = ("int8", "none")  # the others, with a published network: test_conversion.py
LABELS = tuple(f"class {number}" for number in range(3))
SIGNED = {"mean": (127.5,), "std": (127.5,)}  # -1..1


def network(side: int) -> Any:
    """MobileNetV2 with random weights, except in the last layer, which classifies the kinds of drawings."""
    tf = pytest.importorskip("tensorflow")
    tf.keras.utils.set_random_seed(7)
    model = tf.keras.applications.MobileNetV2(
        input_shape=(side, side, 3), alpha=0.35, weights=None, classes=len(LABELS)
    )
    pictures = np.stack([picture.pixels for picture in drawings(side)]) / np.float32(127.5) - 1
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures, training=True)  # sets mean and variance of each layer to those of its input
    features = tf.keras.Model(model.input, model.layers[-2].output)(pictures).numpy()
    center = features.mean(axis=0)
    wanted = 6 * np.eye(len(LABELS), dtype=np.float32)[np.arange(len(pictures)) % len(LABELS)]
    # Ridge regression: among the weights that give the wanted logits, it prefers those that use strong differences.
    spread = (features - center).T @ (features - center)
    ridge = np.trace(spread) / 100 * np.eye(len(spread))
    weights = np.linalg.solve(spread + ridge, (features - center).T @ wanted)
    model.layers[-1].set_weights([weights, -center @ weights])
    return model


def drawings(side: int) -> list[Image]:
    """Twelve pictures of blots, four of each kind; kinds differ in color and fineness."""
    random = np.random.default_rng(5)
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    pictures = []
    for number in range(12):
        kind = number % len(LABELS)
        blots = np.sin(random.uniform(0, 6) + (5 + 20 * kind) * across) * np.sin(random.uniform(0, 6) + 9 * down)
        pixels = np.full((side, side, 3), 60.0)
        pixels[:, :, kind] = 128 + 120 * blots
        pictures.append(Image(pixels.astype(np.uint8)))
    return pictures


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("drawn")
    for number, picture in enumerate(drawings(SIDE)):
        assert cv2.imwrite(str(folder / f"{number:02}.png"), picture.to_color("bgr").pixels)
    return folder


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels") / "labels.txt", LABELS)


def test_exported_mobilenet_answers_like_its_source(drawn: Path, labels: Path, tmp_path: Path) -> None:
    source = tmp_path / "exported"
    network(SIDE).export(str(source), verbose=False)
    conversion = converted(source, tmp_path / "m.tflite", *SCHEMES, calibration=drawn, labels=labels, **SIGNED)
    pictures = drawings(SIDE)
    exact = scores(source_classifier(source, LABELS, **SIGNED), pictures)
    assert exact.argmax(axis=1).tolist() == [0, 1, 2] * 4
    files = contents(conversion)
    assert tuple(files) == SCHEMES
    sizes = {scheme: len(content) for scheme, content in files.items()}
    assert sizes["int8"] < sizes["none"] / 2
    for scheme, content in files.items():
        answers = scores(finished_classifier(content), pictures)
        # Fifty layers with random weights amplify each rounding error a hundred times; trained layers do not.
        if scheme == "none":
            assert largest_difference(answers, exact) < 5 * TOLERANCE[scheme], scheme
        assert (answers.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.5, scheme


@pytest.mark.parametrize(("mean", "std"), [(0.0, 255.0), (127.5, 127.5)])
def test_rescaling_layer_and_mean_and_std_give_the_same_scores(
    small_model: Any, color_images: Path, tmp_path: Path, mean: float, std: float
) -> None:
    tf = pytest.importorskip("tensorflow")
    image = tf.keras.layers.Input((32, 32, 3))
    rescaled = tf.keras.Model(image, small_model(tf.keras.layers.Rescaling(1 / std, offset=-mean / std)(image)))
    small_model.save(tmp_path / "bare.keras")
    rescaled.save(tmp_path / "rescaled.keras")
    options: dict[str, Any] = {"calibration": color_images}
    pictures = readable_images(color_images).values()
    outside = converted(tmp_path / "bare.keras", tmp_path / "o.tflite", "int8", **options, mean=(mean,), std=(std,))
    inside = converted(tmp_path / "rescaled.keras", tmp_path / "i.tflite", "int8", **options, mean=(0.0,), std=(1.0,))
    one, other = (scores(finished_classifier(contents(made)["int8"]), pictures) for made in (outside, inside))
    labels = finished_classifier(contents(outside)["int8"]).labels
    exact = scores(source_classifier(tmp_path / "bare.keras", labels, mean=(mean,), std=(std,)), pictures)
    assert largest_difference(one, other) < QUANTIZED
    assert largest_difference(one, exact) < QUANTIZED
    assert largest_difference(other, exact) < QUANTIZED

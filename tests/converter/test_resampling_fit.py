"""Which resampling fits the labels best: the rule, and models that Keras trained on images in files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import cv2
import numpy as np
import pytest

from agent.model_file.settings import Resample
from converter.evaluation.resampling import Fit, ResamplingComparison

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_convert import EdgeConvert

pytestmark = pytest.mark.long

METHODS: tuple[Resample, ...] = get_args(Resample)
SIDE = 32
GRAINS = {"p040": 64.0, "p080": 36.0, "p120": 20.0, "p240": 10.0}  # sandpaper: contrast of the grains
PER_CLASS = 32


def fit(method: Resample, right: Any, loss: Any) -> Fit:
    return Fit(method, np.asarray(right, bool), np.asarray(loss, float))


def test_best_has_the_highest_accuracy_then_the_lowest_loss_then_is_the_one_in_use() -> None:
    accurate, sure = fit("area", [1, 1, 1, 0], [1, 1, 1, 9]), fit("nearest", [1, 1, 0, 0], [0, 0, 2, 2])
    assert ResamplingComparison((sure, accurate), "nearest").best is accurate
    surer = fit("bicubic", [1, 1, 1, 0], [1, 1, 1, 2])
    assert ResamplingComparison((accurate, surer, sure), "area").best is surer
    same = fit("antialias", [1, 1, 1, 0], [1, 1, 1, 2])
    assert ResamplingComparison((surer, same), "antialias").best is same


@pytest.mark.parametrize(
    ("images", "gained", "is_clear"),
    [
        (100, 0, False),
        (100, 4, False),
        (100, 12, True),
        (20, 12, True),
        (5, 5, False),
        (5000, 5, False),
        (5000, 40, True),
    ],
)
def test_more_right_answers_are_clear_if_a_fair_coin_would_hardly_give_them(
    images: int, gained: int, *, is_clear: bool
) -> None:
    right = np.arange(images) < images // 2
    better = right | (np.arange(images) >= images - gained)
    fits = (fit("antialias", right, np.ones(images)), fit("bilinear", better, np.ones(images)))
    assert ResamplingComparison(fits, "antialias").is_clear == is_clear


@pytest.mark.parametrize(("images", "lower", "is_clear"), [(40, 40, True), (40, 24, False), (6000, 3300, True)])
def test_lower_losses_are_clear_if_they_are_lower_for_most_images(images: int, lower: int, *, is_clear: bool) -> None:
    right = np.ones(images, bool)
    losses = np.where(np.arange(images) < lower, 0.5, 1.1)
    comparison = ResamplingComparison((fit("area", right, np.ones(images)), fit("nearest", right, losses)), "area")
    assert comparison.best.method == "nearest"
    assert comparison.is_clear == is_clear
    assert ("can be chance" in comparison.advice) != is_clear


def as_read_by_keras(keras: Any, folder: Path, method: Resample) -> Iterator[tuple[Any, Any]]:
    """Batches of images and their classes, with `method` as the interpolation."""
    if method in ("antialias", "nearest"):  # load_img uses Pillow
        filters = {"antialias": "bilinear", "nearest": "nearest"}
        for label, name in enumerate(sorted(GRAINS)):
            for path in sorted((folder / name).iterdir()):
                image = keras.utils.load_img(path, target_size=(SIDE, SIDE), interpolation=filters[method])
                yield np.asarray(image, np.float32)[None], [label]
    else:
        yield from keras.utils.image_dataset_from_directory(
            folder, image_size=(SIDE, SIDE), interpolation=method, shuffle=False, verbose=False
        )


def sandpaper(folder: Path, seed: int) -> Path:
    """JPEGs of different sizes, one folder per grain. Grains are single pixels, as in a sharp photo of a surface."""
    random = np.random.default_rng(seed)
    for name, contrast in GRAINS.items():
        (folder / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            height, width = random.integers(80, 128, 2)
            light = np.linspace(0, random.uniform(-20, 20), width)[:, None]
            grains = random.normal(random.uniform(100, 150), contrast * random.uniform(0.85, 1.15), (height, width, 1))
            picture = np.clip(grains + light + random.uniform(-20, 20, 3), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{number:02}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Resample], Path]:
    """Trains the same small network on images that Keras scaled by a method; returns the SavedModel."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    root = tmp_path_factory.mktemp("grains")
    folder = sandpaper(root / "train", 1)

    def train(method: Resample) -> Path:
        batches = zip(*as_read_by_keras(tf.keras, folder, method), strict=True)
        images, labels = (np.concatenate(part) for part in batches)
        layers = tf.keras.layers
        tf.keras.utils.set_random_seed(1)
        model = tf.keras.Sequential(
            [
                layers.Input((SIDE, SIDE, 3), name="image"),
                layers.Rescaling(1 / 32, -4),
                layers.Conv2D(8, 3, activation="relu"),
                layers.Conv2D(8, 3, strides=2, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(16, activation="relu"),
                layers.Dense(len(GRAINS), activation="softmax"),
            ]
        )
        model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        model.fit(images, labels, epochs=60, batch_size=64, verbose=0)
        model.export(str(root / method), verbose=False)
        return root / method

    return train


@pytest.fixture(scope="module")
def test_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sandpaper(tmp_path_factory.mktemp("grains") / "test", 2)


@pytest.mark.parametrize("method", METHODS)
def test_method_of_training_is_recognized(
    method: Resample,
    trained: Callable[[Resample], Path],
    test_images: Path,
    tmp_path: Path,
    edge_convert: EdgeConvert,
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{name}\n" for name in sorted(GRAINS)))
    path = tmp_path / "grains.tflite"
    options = ("--mean", "0", "--std", "1", "--quantize", "none", "--labels", labels)
    assert edge_convert("convert", trained(method), path, *options).code == 0
    outcome = edge_convert("evaluate", path, test_images, "--resample", "all", "--json")
    resampling = json.loads(outcome.out)["resampling"]
    assert resampling["used"] == "antialias"
    assert resampling["best"] == method
    assert resampling["is_clear"] == (method != "antialias")

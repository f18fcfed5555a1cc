"""Resampling, compared with TensorFlow, Keras and Pillow, which the converter's environment has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from conversions import (
    EXACT,
    QUIET,
    converted,
    finished_classifier,
    largest_difference,
    scores,
    source_classifier,
    write_labels,
)

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import Resample
from agent.runtimes.resampling import resample

if TYPE_CHECKING:
    from pathlib import Path

    from conversions import Floats
    from edge_convert import EdgeConvert

    from agent.image import Pixels

tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
pillow = pytest.importorskip("PIL.Image", reason="Pillow is only in .venv-converter")

pytestmark = [pytest.mark.long, *(pytest.mark.filterwarnings(warning) for warning in QUIET)]

METHODS: tuple[Resample, ...] = get_args(Resample)
PHOTOS = ("bird.bmp", "burger.jpg", "cat.bmp", "cat_720p.jpg", "dragonfly.bmp", "grace_hopper.bmp", "hot_dog.jpg")
COLORS = ("blue", "gray", "green", "red")


def as_tensorflow(pixels: Pixels, width: int, height: int, method: Resample) -> Floats:
    """The original's result, not rounded; its values beyond 0 to 255 are cut."""
    if method in ("antialias", "nearest"):
        filters = {"antialias": pillow.Resampling.BILINEAR, "nearest": pillow.Resampling.NEAREST}
        return np.asarray(pillow.fromarray(pixels).resize((width, height), filters[method]), np.float32)
    resized: Floats = tf.image.resize(pixels, (height, width), method=method).numpy()
    return np.clip(resized, 0, 255)


@pytest.mark.assets
@pytest.mark.parametrize("size", [32, 96, 224])
@pytest.mark.parametrize("method", METHODS)
def test_photos_are_within_a_gray_level_of_the_original(assets: Path, method: Resample, size: int) -> None:
    """The mean per pixel. All but antialias differ only by rounding, so each pixel is within one, too."""
    for name in PHOTOS:
        pixels = np.asarray(pillow.open(assets / "photos" / name).convert("RGB"))
        difference = np.abs(resample(pixels, size, size, method) - as_tensorflow(pixels, size, size, method))
        assert difference.mean() < (0.95 if method == "antialias" else 0.3), name
        assert method == "antialias" or difference.max() < 1, name


@pytest.mark.parametrize("method", [method for method in METHODS if method != "antialias"])
@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 9), (3, 2), (5, 701), (33, 31), (31, 97), (97, 1), (320, 240), (448, 224)]
)
@pytest.mark.parametrize(("to_height", "to_width"), [(32, 32), (31, 96), (2, 3)])
def test_noise_of_any_shape_is_within_a_gray_level_of_the_original(
    method: Resample, height: int, width: int, to_height: int, to_width: int
) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    original = as_tensorflow(pixels, to_width, to_height, method)
    assert np.abs(resample(pixels, to_width, to_height, method) - original).max() < 1.01


def test_nearest_is_pillows_for_every_side() -> None:
    """A side of 224 also in its larger multiples: there two pixels are equally near, and rounding decides."""
    for side in [*range(1, 300), 448, 480, 640, 720, 1080, 1280, 1920, 3040, 4056]:
        numbers = np.arange(side, dtype=np.int32)[None]
        for size in (28, 32, 96, 224):
            expected = np.asarray(pillow.fromarray(numbers).resize((size, 1), pillow.Resampling.NEAREST))
            assert np.array_equal(resample(numbers.astype(np.uint16), size, 1, "nearest"), expected), (side, size)


@pytest.mark.parametrize("method", ["bilinear", "nearest", "bicubic", "area"])
def test_resample_is_packed_and_used_by_the_agent(small_saved_model: Path, tmp_path: Path, method: Resample) -> None:
    labels = write_labels(tmp_path / "colors.txt", COLORS)
    conversion = converted(small_saved_model, tmp_path / "colors.tflite", "none", labels=labels, resample=method)
    content = conversion.models[0].content
    assert read_model_file(content).settings.resample == method
    stripes = np.tile(np.array([[200, 0, 0], [0, 0, 0], [0, 220, 0], [0, 0, 90]], np.uint8), (128, 34, 1))
    ours = scores(finished_classifier(content), [Image(stripes)])
    source = source_classifier(small_saved_model, COLORS)
    assert largest_difference(ours, scores(source, [Image(resample(stripes, 32, 32, method))])) < EXACT
    assert largest_difference(ours, scores(source, [Image(stripes)])) > 3 * EXACT


def test_resample_is_not_packed_if_it_is_antialias(
    small_saved_model: Path, color_images: Path, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    arguments = ("--quantize", "none", "--mean", "0", "--std", "255", "--evaluate", color_images, "--resample")
    for method in ("antialias", "area"):
        path = tmp_path / f"{method}.tflite"
        assert edge_convert("convert", small_saved_model, path, *arguments, method).code == 0
        packed = read_model_file(path.read_bytes()).settings.resample
        assert packed == (None if method == "antialias" else "area")


def test_evaluate_uses_the_given_method_and_compares_all(
    small_saved_model: Path, color_images: Path, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    labels = write_labels(tmp_path / "colors.txt", COLORS)
    converted(small_saved_model, path := tmp_path / "m.tflite", "none", labels=labels, resample="nearest")
    stripes = np.tile(np.array([[200, 0, 0], [0, 0, 0], [0, 220, 0], [0, 0, 90]], np.uint8), (128, 34, 1))
    (tmp_path / "stripes" / "red").mkdir(parents=True)
    pillow.fromarray(stripes).save(tmp_path / "stripes" / "red" / "stripes.png")

    def loss(images: Path, method: str) -> dict[str, float]:
        outcome = edge_convert("evaluate", path, images, "--resample", method, "--json")
        assert outcome.code == 0, outcome.err
        return {each["resample"]: each["log_loss"] for each in json.loads(outcome.out)["resampling"]["methods"]}

    assert list(loss(tmp_path / "stripes", "all")) == list(METHODS)
    assert len(set(loss(tmp_path / "stripes", "all").values())) == len(METHODS)
    outcome = edge_convert("evaluate", path, color_images, "--resample", "all")
    assert all(f"\n {method} " in outcome.out for method in METHODS)
    # The pictures are noise around a color, which a mean removes.
    assert "resample: antialias fits the labels better: 100.0 % correct" in outcome.out
    refused = edge_convert("evaluate", path, color_images, "--resample", "all", "--source", small_saved_model)
    assert (refused.code, "Leave out --source" in refused.err) == (2, True)

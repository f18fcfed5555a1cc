"""Google's MediaPipe reads the finished files and gives the same answers as the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from conversions import (
    QUANTIZED,
    QUIET,
    contents,
    converted,
    finished_classifier,
    largest_difference,
    readable_images,
    scores,
)

from agent.image import Image
from agent.runtimes.resampling import resample
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from conversions import Floats

    from agent.runtimes.classifier import Classifier
    from converter.quantization import Scheme

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings(*QUIET)]
mediapipe = pytest.importorskip("mediapipe", reason="MediaPipe is only in .venv-converter")
tasks = pytest.importorskip("mediapipe.tasks.python")

SCHEMES: tuple[Scheme, ...] = ("int8", "none")


def mediapipe_scores(content: bytes, images: Sequence[Image], labels: Sequence[str]) -> Floats:
    """Images x labels, ordered by the names that MediaPipe reads from the file."""
    options = tasks.vision.ImageClassifierOptions(base_options=tasks.BaseOptions(model_asset_buffer=content))
    rows = np.zeros((len(images), len(labels)), np.float32)
    with tasks.vision.ImageClassifier.create_from_options(options) as classifier:
        for row, image in zip(rows, images, strict=True):
            for category in _categories(classifier, image):
                assert labels[category.index] == category.category_name
                row[category.index] = category.score
    return rows


@pytest.mark.assets
def test_mediapipe_applies_the_temperature_of_two_labels(assets: Path) -> None:
    content, without_temperature = (
        pack_metadata(
            (assets / "models/mlperf_vww_96_float/vww_96_float.tflite").read_bytes(),
            labels=["non_person", "person"],
            mean=[0.0],
            std=[255.0],
            color="rgb",
            name="vww",
            version="1",
            temperature=temperature,
            additions={"settings": {"score": "probability", "temperature": temperature}},
        )
        for temperature in (2.5, None)
    )
    classifier = finished_classifier(content)
    photos = resized_by_the_agent(classifier, list(readable_images(assets / "photos").values()))
    ours, theirs = scores(classifier, photos), mediapipe_scores(content, photos, classifier.labels)
    assert largest_difference(ours, theirs) < 1e-3
    uncalibrated = finished_classifier(without_temperature)
    assert largest_difference(scores(uncalibrated, photos), ours) > 0.1


def _categories(classifier: Any, image: Image) -> Any:
    pixels = np.ascontiguousarray(image.to_color("rgb").pixels)
    picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
    return classifier.classify(picture).classifications[0].categories


def resized_by_the_agent(classifier: Classifier, images: Sequence[Image]) -> list[Image]:
    """Resized to the input size, so that MediaPipe does not resize."""
    _, height, width, _ = classifier.input.shape
    return [Image(resample(image.pixels, width, height, "antialias"), image.color) for image in images]


@pytest.mark.assets
def test_mediapipe_and_agent_agree_on_persons(assets: Path, tmp_path: Path) -> None:
    conversion = converted(
        assets / "savedmodels/vww_96_savedmodel",
        tmp_path / "vww.tflite",
        *SCHEMES,
        labels=assets / "models/mlperf_vww_96_float/labels.txt",
        calibration=assets / "photos",
    )
    photos = list(readable_images(assets / "photos").values())
    for scheme, content in contents(conversion).items():
        classifier = finished_classifier(content)
        resized = resized_by_the_agent(classifier, photos)
        ours, theirs = scores(classifier, resized), mediapipe_scores(content, resized, classifier.labels)
        clear = np.abs(ours[:, 0] - ours[:, 1]) > 0.02
        assert np.array_equal(ours[clear].argmax(axis=1), theirs[clear].argmax(axis=1)), scheme
        assert largest_difference(ours, theirs) < (QUANTIZED if scheme == "int8" else 1e-3), scheme


@pytest.mark.assets
def test_mediapipe_and_agent_agree_on_unresized_photos(assets: Path, tmp_path: Path) -> None:
    """MediaPipe resizes without antialiasing, so the agent gets photos that were resized in the same way."""
    conversion = converted(
        assets / "savedmodels/vww_96_savedmodel",
        tmp_path / "vww.tflite",
        "none",
        labels=assets / "models/mlperf_vww_96_float/labels.txt",
    )
    content = contents(conversion)["none"]
    classifier = finished_classifier(content)
    photos = list(readable_images(assets / "photos").values())
    resized = [Image(cv2.resize(photo.pixels, (96, 96)), photo.color) for photo in photos]
    ours, theirs = scores(classifier, resized), mediapipe_scores(content, photos, classifier.labels)
    strong = ours.max(axis=1) > 0.8
    assert strong.sum() >= 10
    assert np.array_equal(ours[strong].argmax(axis=1), theirs[strong].argmax(axis=1))


def test_mediapipe_and_agent_agree_on_colors(small_saved_model: Path, color_images: Path, tmp_path: Path) -> None:
    conversion = converted(small_saved_model, tmp_path / "c.tflite", *SCHEMES, calibration=color_images)
    pictures = list(readable_images(color_images).values())
    for scheme, content in contents(conversion).items():
        classifier = finished_classifier(content)
        resized = resized_by_the_agent(classifier, pictures)
        ours, theirs = scores(classifier, resized), mediapipe_scores(content, resized, classifier.labels)
        assert np.array_equal(ours.argmax(axis=1), theirs.argmax(axis=1)), scheme
        assert largest_difference(ours, theirs) < (QUANTIZED if scheme == "int8" else 1e-3), scheme


@pytest.mark.parametrize(
    "fed",
    [
        {"mean": (103.939, 116.779, 123.68), "std": (255.0,), "color": "bgr"},
        {"mean": (123.675, 116.28, 103.53), "std": (255.0, 250.0, 245.0)},
    ],
    ids=str,
)
def test_mediapipe_and_agent_agree_on_models_with_bgr_or_three_means(
    small_saved_model: Path, color_images: Path, tmp_path: Path, fed: dict[str, Any]
) -> None:
    pictures = list(readable_images(color_images).values())
    for scheme in SCHEMES:  # separately: together with int8, a float32 file has the means in its graph too
        options = fed | {"calibration": color_images, "force": True}
        content = contents(converted(small_saved_model, tmp_path / "c.tflite", scheme, **options))[scheme]
        classifier = finished_classifier(content)
        resized = resized_by_the_agent(classifier, pictures)
        ours, theirs = scores(classifier, resized), mediapipe_scores(content, resized, classifier.labels)
        assert largest_difference(ours, theirs) < (QUANTIZED if scheme == "int8" else 1e-3), scheme

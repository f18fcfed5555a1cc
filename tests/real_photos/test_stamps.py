"""Real photos: the stamps of Tux Paint, which Debian packages; 169 photos in five classes, some with little detail."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import finished_classifier
from stamps import copy_stamps
from trainings import saved_classifier

from converter.images.image_folder import list_images

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_stamps(tmp_path_factory.mktemp("photos") / "stamps")


def edge_convert(*words: str | Path) -> Any:
    """What the command prints as JSON."""
    command = [sys.executable, "-m", "converter.cli", *map(str, words), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.fixture(scope="module")
def trained(photos: Path) -> tuple[Path, Mapping[str, Any]]:
    """The folder with stamps/ and stamps.tflite, and what the command printed."""
    work = photos.parent
    words = ("train", photos, work / "model", "--to", work / "model.tflite", "--report", work / "model.html")
    return work, edge_convert(*words)


def test_mean_balanced_accuracy_over_five_folds_is_at_least_088(trained: tuple[Path, Mapping[str, Any]]) -> None:
    folds = trained[1]["folds"]
    print(f"balanced accuracy of 5 folds: mean {np.mean(folds):.3f}, {min(folds):.3f} to {max(folds):.3f}")
    assert len(folds) == 5
    assert np.mean(folds) >= 0.88


def test_int8_file_is_within_2_percent_of_the_saved_model(
    trained: tuple[Path, Mapping[str, Any]], photos: Path
) -> None:
    work, _ = trained
    evaluation = edge_convert("evaluate", work / "model.tflite", photos, "--source", work / "model")
    source, model = (each["top1"] for each in evaluation["models"])
    assert abs(source - model) <= 0.02
    assert evaluation["agreement"] >= 0.96


def test_int8_file_finds_the_same_photos_unfamiliar_as_the_saved_model(
    trained: tuple[Path, Mapping[str, Any]], photos: Path
) -> None:
    """Each of them is an example in the model, which must not make it familiar to itself."""
    work, _ = trained
    images = [found.read(smallest_side=224) for found in list_images(photos).images]
    models = saved_classifier(work / "model"), finished_classifier((work / "model.tflite").read_bytes())
    saved, finished = (np.array([model.scores(image)[0].probabilities.max() for image in images]) for model in models)
    assert (saved < 0.5).sum() >= 5
    np.testing.assert_allclose(finished, saved, atol=0.4)

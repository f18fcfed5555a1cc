from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agents.models_on_disk import BARE_DIGITS

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from pathlib import Path

BIRDS = tuple(f"bird_{number}" for number in range(10))
DESCRIPTION = {"task": "classify", "imgsz": [32, 32], "names": dict(enumerate(BIRDS)), "args": {"half": False}}


def settings(name: str, text: str) -> ModelSettings:
    stream = io.BytesIO(BARE_DIGITS)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return read_model_file(stream.getvalue()).settings


@pytest.mark.reports
@pytest.mark.parametrize("name", ["yolo_classify_metadata_json", "yolo_classify_dict_label_file"])
def test_export_of_ultralytics_has_labels_range_and_crop(reports: Path, name: str) -> None:
    file = read_model_file((reports / f"{name}.tflite").read_bytes())
    assert file.settings.labels == BIRDS
    assert (file.settings.mean, file.settings.std, file.settings.resize) == ((0.0,), (255.0,), "crop")
    classifier = TFLiteClassifier(file, file.settings, threads=1)
    pixels = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    photo, center = Image(pixels), Image(pixels[:, 50:150].copy())
    (whole, _), (cut, _) = classifier.scores(photo), classifier.scores(center)
    assert whole.best(10) == cut.best(10)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.json", json.dumps(DESCRIPTION)),
        ("metadata.json", json.dumps({**DESCRIPTION, "names": BIRDS})),
        ("temp_meta.txt", str(DESCRIPTION)),
    ],
)
def test_description_is_read_in_each_form(name: str, text: str) -> None:
    read = settings(name, text)
    assert read.labels == BIRDS
    assert (read.mean, read.std, read.resize) == ((0.0,), (255.0,), "crop")


@pytest.mark.parametrize(
    "description",
    [
        {**DESCRIPTION, "task": "detect"},
        {"task": "classify"},
        [1],
        {**DESCRIPTION, "names": {"0": "a", "2": "b"}, "task": None},
    ],
)
def test_other_descriptions_have_no_settings(description: Any) -> None:
    assert settings("metadata.json", json.dumps(description)) == ModelSettings(score="probability")


def test_description_is_never_run_as_code(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    text = f"{{'task': 'classify', 'names': __import__('pathlib').Path({str(trap)!r}).touch()}}"
    assert settings("temp_meta.txt", text) == ModelSettings(score="probability")
    assert not trap.exists()

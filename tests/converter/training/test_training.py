"""Training: a folder of photos becomes a SavedModel that the agent serves and edge-convert converts as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conversions import QUIET, finished_classifier, untracked
from trainings import saved_classifier, scores_of_saved_model

from agent.image import decode
from agent.model_file.golden import read_golden_folder
from agent.model_file.saved_model import read_saved_model
from agent.runtimes.golden import ask_golden
from converter.training.checkpoint import Checkpoint
from converter.training.training import TrainingRequest, train_and_write

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert
    from trainings import Trained

pytestmark = [pytest.mark.long, *(pytest.mark.filterwarnings(text) for text in QUIET)]


def test_model_answers_as_the_report_says(trained: Trained) -> None:
    """The scores of the held-out photos, computed from features, are those of the exported graph."""
    scores = scores_of_saved_model(trained.training, trained.request.output)
    np.testing.assert_allclose(scores, trained.training.scores, atol=1e-4)
    assert trained.training.exported.accuracy > 0.6


def test_folder_states_labels_settings_and_provenance(trained: Trained) -> None:
    saved = read_saved_model(trained.request.output)
    assert saved.settings.labels == ("disk", "grid", "stripes")
    assert (saved.settings.mean, saved.settings.std, saved.settings.color) == ((0.0,), (1.0,), "rgb")
    assert saved.settings.resample == "antialias"
    assert saved.provenance is not None
    assert saved.provenance["backbone"] == "EfficientNetLite0"
    assert saved.provenance["photos"] == 24


def test_golden_samples_pass(trained: Trained) -> None:
    golden = read_golden_folder(trained.request.output)
    assert golden is not None
    answers = ask_golden(golden, saved_classifier(trained.request.output))
    assert not answers.fails


def test_same_seed_gives_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    request = TrainingRequest(photos=trained.request.photos, output=tmp_path / "shapes", folds=1)
    training = train_and_write(request, track=untracked)
    assert training.files == trained.training.files
    names = {str(path.relative_to(request.output)) for path in request.output.rglob("*") if path.is_file()}
    assert names == set(training.files)


def test_checkpoint_is_deleted_after_the_output_is_written(trained: Trained) -> None:
    assert not Checkpoint.folder_of(trained.request.output).exists()
    assert [path.name for path in trained.request.output.parent.iterdir()] == ["shapes"]


def test_convert_needs_no_options_about_the_model(trained: Trained, edge_convert: EdgeConvert, tmp_path: Path) -> None:
    output = tmp_path / "shapes.tflite"
    folder = trained.request.photos
    words = ("convert", trained.request.output, output, "--calibration", folder, "--evaluate", folder)
    outcome = edge_convert(*words, "--report", tmp_path / "shapes.html", "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["labels"] == ["disk", "grid", "stripes"]
    seen = len(trained.training.partition.train)
    assert document["models"][0]["evaluation"]["trained_on"] == seen
    note = f"{seen} of the 24 images in {folder} were used to train the model"
    assert note in outcome.err
    assert note in (tmp_path / "shapes.html").read_text()
    (sentence,) = document["models"][0]["evaluation"]["fitted"]["sentences"]
    assert f"{24 - seen} labeled images are too few" in sentence
    classifier = finished_classifier(output.read_bytes())
    photo = trained.request.photos / "grid" / "03.png"
    scores, _ = classifier.scores(decode(photo.read_bytes()))
    assert scores.best(1)[0].label == "grid"


def test_an_option_comes_before_what_the_folder_states(
    trained: Trained, edge_convert: EdgeConvert, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    outcome = edge_convert(
        "convert", trained.request.output, tmp_path / "m.tflite", "--quantize", "none", "--labels", labels, "--json"
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["labels"] == ["a", "b", "c"]


def test_train_to_writes_both_and_a_report(shapes: Path, edge_convert: EdgeConvert, tmp_path: Path) -> None:
    words = ("train", shapes, tmp_path / "7", "--to", tmp_path / "m.tflite", "--report", tmp_path / "m.html")
    outcome = edge_convert(*words, "--folds", "2", "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["conversion"]["models"][0]["written"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "m.html", "m.json", "m.tflite"]
    page = (tmp_path / "m.html").read_text()
    for heading in (
        f"Training of {tmp_path.name} 7",
        "In short",
        "What is taken for what",
        "Would more photos help?",
        "The file for devices",
    ):
        assert heading in page

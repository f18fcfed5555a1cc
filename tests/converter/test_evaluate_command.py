"""The command edge-convert evaluate: figures of a file, alone or against its source, and refusals."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from conversions import QUIET

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert

pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
pytestmark = pytest.mark.filterwarnings(*QUIET)


def test_evaluate_measures_a_file_alone(finished: Path, color_images: Path, edge_convert: EdgeConvert) -> None:
    outcome = edge_convert("evaluate", finished, color_images)
    assert (outcome.code, outcome.err) == (0, "")
    assert "colors.tflite" in outcome.out
    assert "On 80 labeled images, the finished model is 100.0 % correct." in outcome.out


def test_evaluate_compares_with_the_source_and_writes_a_report(
    finished: Path, small_saved_model: Path, color_images: Path, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    page = tmp_path / "page.html"
    outcome = edge_convert(
        "evaluate", finished, color_images, "--source", small_saved_model, "--report", page, "--json"
    )
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert (document["images"], document["drop"], document["agreement"]) == (80, 0, 1)
    assert [model["name"] for model in document["models"]] == ["colors", "colors.tflite"]
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "page.json"]


def test_evaluate_requires_class_folders_or_a_source(
    finished: Path, small_saved_model: Path, color_images: Path, edge_convert: EdgeConvert
) -> None:
    flat = color_images / "red"
    outcome = edge_convert("evaluate", finished, flat)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"edge-convert: {flat} has no class folders, so the correct answers are unknown. Make one folder per class, "
        "or compare with the source: --source SAVED_MODEL.\n"
    )
    outcome = edge_convert("evaluate", finished, flat, "--source", small_saved_model)
    assert (outcome.code, outcome.err) == (0, "")
    assert "On 20 images, the finished model and the source agree on 100.0 %." in outcome.out


def test_evaluate_refuses_a_worse_model_with_max_drop(
    finished: Path, small_saved_model: Path, color_images: Path, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    outcome = edge_convert("evaluate", finished, color_images, "--max-drop", "0.01")
    assert (outcome.code, outcome.err) == (
        2,
        "edge-convert: --max-drop needs the source to compare with. Give it with --source SAVED_MODEL.\n",
    )
    outcome = edge_convert("evaluate", finished, color_images, "--source", small_saved_model, "--max-drop", "0.01")
    assert (outcome.code, outcome.err) == (0, "")
    swapped = shutil.copy(finished, tmp_path / "swapped.tflite")
    (tmp_path / "swapped.yaml").write_text("color: bgr\n")
    outcome = edge_convert("evaluate", swapped, color_images, "--source", small_saved_model, "--max-drop", "0.01")
    assert outcome.code == 1
    assert outcome.err == "edge-convert: Top-1 accuracy dropped by 50.0 %. --max-drop allows 1.0 %.\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"PK\x03\x04 and more", "This is a zip archive (a .keras file?), not a .tflite model."),
    ],
)
def test_evaluate_refuses_other_files(
    content: bytes | None, message: str, color_images: Path, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    if content is not None:
        (tmp_path / "m.tflite").write_bytes(content)
    outcome = edge_convert("evaluate", tmp_path / "m.tflite", color_images)
    assert (outcome.code, outcome.out) == (1, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_evaluate_accepts_the_source_in_another_format(
    finished: Path, small_model: Any, color_images: Path, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    small_model.save(tmp_path / "colors.keras")
    outcome = edge_convert("evaluate", finished, color_images, "--source", tmp_path / "colors.keras", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["agreement"] > 0.9
    assert outcome.err == f"edge-convert: The file was made from a different model than {tmp_path / 'colors.keras'}.\n"

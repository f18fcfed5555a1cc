"""The command edge-convert inspect: what it prints about a trained model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from conversions import QUIET

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert

pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
pytestmark = pytest.mark.filterwarnings(*QUIET)


def test_inspect_prints_a_table(small_saved_model: Path, edge_convert: EdgeConvert) -> None:
    outcome = edge_convert("inspect", small_saved_model)
    assert (outcome.code, outcome.err) == (0, "")
    rows = {tuple(line.split(maxsplit=1)) for line in map(str.rstrip, outcome.out.splitlines()) if line}
    assert {
        ("signature", "serving_default"),
        ("inputs", "image: float32 ? x 32 x 32 x 3"),
        ("outputs", "output_0: float32 ? x 4"),
        ("parameters", "3900"),
        ("image_classifier", "yes"),
        ("lacks_in_tflite", "none"),
    } <= rows


@pytest.mark.assets
@pytest.mark.long
def test_inspect_prints_why_a_model_is_not_an_image_classifier(assets: Path, edge_convert: EdgeConvert) -> None:
    outcome = edge_convert("inspect", assets / "savedmodels" / "kws_savedmodel_audio")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "image_classifier no" in lines
    assert "lacks_in_tflite unknown" in lines
    assert any(line.startswith("reason its input is 49 x 10") for line in lines)


def test_inspect_prints_json(small_saved_model: Path, edge_convert: EdgeConvert) -> None:
    outcome = edge_convert("inspect", small_saved_model, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert document["path"] == str(small_saved_model)
    assert [signature["lacks_in_tflite"] for signature in document["signatures"]] == [[], []]

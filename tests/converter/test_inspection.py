"""Inspection of image classifiers, other models, and models with unsupported operators."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from conversions import untracked

from converter.errors import TrainedModelError
from converter.inspection import inspect_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")


def inspected(path: Path) -> dict[str, Any]:
    document = inspect_source(path, track=untracked)
    assert json.loads(json.dumps(document)) == document
    return document


def saved(path: Path, answers: Callable[[Any], Any], shape: tuple[int | None, ...]) -> Path:
    """A SavedModel whose only signature applies `answers` to the mean color of its images."""
    module = tf.Module()
    module.weights = tf.Variable(tf.random.stateless_normal((shape[-1] or 3, 5), seed=(1, 2)))

    def call(image: Any) -> dict[str, Any]:
        return {"scores": answers(tf.reduce_mean(image, (1, 2)) @ module.weights)}

    image = tf.TensorSpec((None, *shape), tf.float32, name="image")
    tf.saved_model.save(module, str(path), signatures=tf.function(call, input_signature=[image]))
    return path


def test_classifier_is_described_with_inputs_and_outputs(small_saved_model: Path) -> None:
    document = inspected(small_saved_model)
    signatures = document.pop("signatures")
    files = [file for file in small_saved_model.rglob("*") if file.is_file()]
    assert len(document.pop("sha256")) == hashlib.sha256().digest_size * 2
    assert document == {
        "path": str(small_saved_model),
        "kind": f"SavedModel of TensorFlow {tf.__version__}",
        "keras": "3, or 2 by export()",
        "bytes": sum(file.stat().st_size for file in files),
    }
    assert [signature.pop("signature") for signature in signatures] == ["serve", "serving_default"]
    assert signatures[0] == signatures[1]
    assert signatures[0] == {
        "inputs": [{"name": "image", "shape": [-1, 32, 32, 3], "dtype": "float32"}],
        "outputs": [{"name": "output_0", "shape": [-1, 4], "dtype": "float32"}],
        "parameters": 3900,
        "image_classifier": True,
        "reason": None,
        "lacks_in_tflite": [],
    }


def test_unsupported_operators_are_named(tmp_path: Path) -> None:
    lacking = saved(tmp_path / "m", lambda x: tf.nn.softmax(tf.math.digamma(x) + tf.math.erfinv(x)), (8, 8, 3))
    (signature,) = inspected(lacking)["signatures"]
    assert signature["image_classifier"]
    assert signature["lacks_in_tflite"] == ["Digamma", "Erfinv"]


def test_flex_operators_are_unsupported_too(tmp_path: Path) -> None:
    (signature,) = inspected(saved(tmp_path / "m", lambda x: tf.nn.softmax(tf.sinh(x)), (8, 8, 3)))["signatures"]
    assert signature["lacks_in_tflite"] == ["Sinh"]


def test_other_model_is_described_with_a_reason_and_not_converted(tmp_path: Path) -> None:
    (signature,) = inspected(saved(tmp_path / "m", tf.sigmoid, (8, 8, 4)))["signatures"]
    assert signature["image_classifier"] is False
    assert signature["reason"] == "its input has 4 channels, not 3 (color) or 1 (gray)"
    assert signature["lacks_in_tflite"] is None


def test_classifier_with_open_input_size_is_described_with_a_hint(tmp_path: Path) -> None:
    (signature,) = inspected(saved(tmp_path / "m", tf.nn.softmax, (None, None, 3)))["signatures"]
    assert signature["image_classifier"] is True
    assert signature["reason"] == (
        "The model has no fixed input size (? x ? x ? x 3). Give one: --input-size HEIGHTxWIDTH."
    )
    assert signature["lacks_in_tflite"] is None


@pytest.mark.assets
def test_keyword_spotter_is_not_an_image_classifier(assets: Path) -> None:
    (signature,) = inspected(assets / "savedmodels" / "kws_savedmodel_audio")["signatures"]
    assert signature["image_classifier"] is False
    assert signature["reason"].startswith("its input is 49 x 10, which looks like audio features")
    assert signature["parameters"] == 24908


def test_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainedModelError, match="does not exist"):
        inspected(tmp_path / "absent")

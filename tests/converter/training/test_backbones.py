"""Backbones of Keras: with weights from a file, each takes plain 0..255 images, trains and becomes an int8 file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conversions import QUIET, finished_classifier
from trainings import write_shapes

from agent.image import decode
from converter.errors import TrainedModelError, UsageError
from converter.training.backbone import DEFAULT, NAMES, BackboneName, open_backbone

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert

pytestmark = [pytest.mark.long, *(pytest.mark.filterwarnings(text) for text in QUIET)]

_MODULES: dict[BackboneName, str] = {
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3",
    "MobileNetV3Large": "mobilenet_v3",
    "EfficientNetV2B0": "efficientnet_v2",
    "ResNet50": "resnet",
    "ConvNeXtTiny": "convnext",
}
# One of each way in which Keras rescales its input; all six would take three minutes.
_TRAINED: tuple[BackboneName, ...] = ("MobileNetV2", "MobileNetV3Small")


def _save_weights(name: BackboneName, path: Path) -> None:
    keras = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter").keras
    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(224, 224, 3))
    if path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        network.save(path)  # the older layout, which the published files have


def test_every_backbone_has_a_module_here() -> None:
    assert {*_MODULES, DEFAULT} == set(NAMES)


@pytest.mark.parametrize("name", _MODULES)
def test_images_from_0_to_255_are_normalized_as_the_backbone_was_trained(name: BackboneName, tmp_path: Path) -> None:
    """The maps are those of the network of Keras after Keras' own preprocessing."""
    keras = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter").keras
    path = tmp_path / "backbone.weights.h5"
    _save_weights(name, path)
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    theirs = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(224, 224, 3))
    theirs.load_weights(path)
    prepared = importlib.import_module(f"keras.applications.{_MODULES[name]}").preprocess_input(images.copy())
    expected = np.asarray(theirs(prepared, training=False))
    (maps,) = open_backbone(name, path).maps(images)
    np.testing.assert_allclose(np.asarray(maps), expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("name", _TRAINED)
def test_backbone_of_keras_trains_and_becomes_an_int8_file(
    name: BackboneName, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    photos = write_shapes(tmp_path / "photos", per_class=5, classes=("disk", "grid"))
    weights, model, output = (tmp_path / each for each in ("backbone.h5", "model", "model.tflite"))
    _save_weights(name, weights)
    outcome = edge_convert("train", photos, model, "--backbone", name, "--weights", weights, "--folds", "1")
    assert outcome.code == 0, outcome.err
    outcome = edge_convert("convert", model, output, "--calibration", photos)
    assert outcome.code == 0, outcome.err
    scores, _ = finished_classifier(output.read_bytes()).scores(decode((photos / "grid" / "00.png").read_bytes()))
    assert {each.label for each in scores.best(2)} == {"disk", "grid"}


def test_weights_of_another_network_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "backbone.weights.h5"
    _save_weights("MobileNetV3Small", path)
    with pytest.raises(TrainedModelError, match=r"backbone\.weights\.h5 does not have the weights of MobileNetV2 "):
        open_backbone("MobileNetV2", path)


def test_failed_download_names_the_address_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the port of discard, where nothing listens
    with pytest.raises(
        UsageError, match=r"cannot be downloaded from https://storage\.googleapis\.com/\S+\.h5 \(.*--we"
    ):
        open_backbone("MobileNetV2", None)
    assert not list(tmp_path.rglob("*.h5"))

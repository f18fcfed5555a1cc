"""Settings of the user's Keras, which must not change how edge-convert reads a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow", reason="TensorFlow has an environment of its own: .venv-converter")

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),  # Keras saves
]

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "TF_USE_LEGACY_KERAS": "1",
    "KERAS_BACKEND": "torch",
    "KERAS_HOME": "{home}/.keras",
    "KERAS_NNX_ENABLED": "1",
    "KERAS_MAX_EPOCHS": "two",
}


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()])
    model.save(path)
    return path


@pytest.mark.parametrize(
    ("settings", "variables"),
    [
        ({"backend": "theano", "floatx": "float64", "image_data_format": "channels_first", "epsilon": "small"}, {}),
        ({"backend": "jax"}, VARIABLES),
    ],
)
def test_model_is_read_whatever_the_user_has_set_for_keras(
    settings: dict[str, Any], variables: dict[str, str], keras_file: Path, tmp_path: Path
) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    own = {key: value.format(home=tmp_path) for key, value in variables.items()}
    ended = subprocess.run(
        [sys.executable, "-m", "converter.cli", "inspect", str(keras_file), "--json"],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(Path.home() / ".cache"), "HOME": str(tmp_path), **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    (signature,) = json.loads(ended.stdout)["signatures"]
    assert signature["inputs"][0]["dtype"] == "float32"
    assert (signature["image_classifier"], signature["lacks_in_tflite"]) == (True, [])
    assert json.loads((tmp_path / ".keras" / "keras.json").read_text()) == settings

"""From an exported SavedModel to a label over MQTT: watch, convert, sign, drop, serve; all parts are real processes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agents.running_agent import RunningAgent, wait_until
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber
from watch_process import WatchProcess

from agent.model_file.metadata import read_model_file
from converter.signing import SecretKey, public_key_file, secret_key_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.mosquitto]

OPTIONS = {"mean": 0, "std": 255}


@pytest.fixture(scope="module")
def fragile_saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that int8 ruins: the range is set by a channel a thousand times as strong as the relevant ones."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    layers = tf.keras.layers
    spread = layers.Conv2D(4, 1, use_bias=False, activation="relu")
    gather = layers.Conv2D(4, 1, use_bias=False, activation="relu")
    score = layers.Dense(4, activation="softmax")
    model = tf.keras.Sequential([layers.Input((32, 32, 3)), spread, gather, layers.GlobalAveragePooling2D(), score])
    spread.set_weights([np.hstack([np.eye(3), np.full((3, 1), 1000 / 3)])[None, None]])
    gather.set_weights([np.diag([1, 1, 1, 0.001])[None, None]])
    score.set_weights([np.array([[0, 0, 0, 30], [0, 0, 30, 0], [30, 0, 0, 0], [0, 0, 0, 0]]), np.array([0, 18, 0, 0])])
    path = tmp_path_factory.mktemp("fragile") / "fragile"
    model.export(str(path), verbose=False)
    return path


def test_exported_versions_reach_a_device_signed_and_bad_ones_do_not(
    small_saved_model: Path, fragile_saved_model: Path, color_images: Path, tmp_path: Path
) -> None:
    key = SecretKey.new()
    (tmp_path / "birds.key").write_bytes(secret_key_file(key, None))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/birds.pub").write_bytes(public_key_file(key.public))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(color_images / "red/00.png", pictures / "1.png")
    photos = str(color_images)
    watch = WatchProcess(
        tmp_path,
        key="birds.key",
        models={"colors": OPTIONS | {"calibration": photos, "evaluate": photos, "max_drop": 0.02}},
    )
    with (
        Mosquitto(tmp_path) as broker,
        Subscriber(broker.port) as heard,
        RunningAgent(
            tmp_path,
            models={"folder": "output", "signatures": "required", "trusted_keys": "keys"},
            mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port},
            cameras={"front": {"source": str(pictures), "loop": True, "model": "colors", "max_fps": 5}},
        ) as agent,
        watch,
    ):
        watch.export(small_saved_model, "colors", 1)
        wait_until(lambda: "red" in heard.payloads("classification/colors"), timeout_s=200, what="the label arrives")
        assert agent.model("colors")["serving"]["version"] == "1"
        source = read_model_file(watch.model("colors", 1).read_bytes()).provenance or {}
        assert source["source"]["kind"]

        watch.export(fragile_saved_model, "colors", 2)
        watch.wait_for("colors 2 is refused", timeout_s=200)
        assert not watch.model("colors", 2).parent.exists()
        reason = (watch.reports / "colors/2.refused.txt").read_text()
        assert "75.0 percentage points lost" in reason
        assert "Refused, not written" in (watch.reports / "colors/2.html").read_text()

        assert agent.model("colors")["serving"]["version"] == "1"

        converted = watch.log.count("Converting")
        assert watch.end() == 0
        with watch:
            watch.wait_for("Watching", times=2)
            watch.export(small_saved_model, "plants", 1)
            watch.wait_for("plants is ignored: the recipe has no models.plants")
            assert watch.end() == 0
        assert watch.log.count("Converting") == converted

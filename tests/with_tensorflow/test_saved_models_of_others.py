"""SavedModels of Keras 2, Keras 3 and TensorFlow 1, dropped and served with their own scores."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agents.managed import Managed
from agents.saved_models import COLORS, SIDE, write_extra

from agent.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.first]

PIXELS = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def keras_3(path: Path) -> list[float]:
    import tensorflow as tf  # noqa: PLC0415  (slow)

    model = _classifier(tf.keras)
    model.export(str(path), verbose=False)
    return _scores(model)


def keras_2(path: Path) -> list[float]:
    import tf_keras  # noqa: PLC0415  (slow)

    model = _classifier(tf_keras)
    model.save(str(path), save_format="tf")
    return _scores(model)


def tensorflow_1(path: Path) -> list[float]:
    """As tf.compat.v1's simple_save writes it: variables behind a saver, no objects."""
    import tensorflow as tf  # noqa: PLC0415  (slow)

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, (None, SIDE, SIDE, 3), name="image")
        weights = v1.get_variable("weights", (3, 4), initializer=v1.random_normal_initializer(stddev=0.01, seed=1))
        scores = tf.nn.softmax(tf.reduce_mean(image, axis=(1, 2)) @ weights.read_value())
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"image": image}, {"scores": scores})
        return [float(score) for score in session.run(scores, {image: PIXELS[None].astype(np.float32)})[0]]


def _classifier(keras: Any) -> Any:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 3), name="image"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(len(COLORS), activation="softmax", name="scores"),
        ]
    )


def _scores(model: Any) -> list[float]:
    return [float(score) for score in model(PIXELS[None].astype(np.float32)).numpy()[0]]


@pytest.mark.parametrize("save", [keras_3, keras_2, tensorflow_1])
async def test_it_serves_with_the_scores_that_it_had_in_training(
    folder: Path, save: Callable[[Path], list[float]]
) -> None:
    path = folder / "m" / "1"
    expected = save(path)
    write_extra(path, labels=tuple(COLORS), settings={"mean": 0, "std": 1, "score": "probability"})
    managed = Managed(folder)
    await managed.start()
    assert managed.reason() == ""
    classifier = managed.manager.get("m").loaded.classifiers[0]
    assert classifier.scores(Image(PIXELS, "rgb"))[0].probabilities == pytest.approx(expected, abs=1e-5)


@pytest.mark.assets
async def test_published_saved_models_serve_or_are_refused_with_the_reason(folder: Path, assets: Path) -> None:
    published = assets / "savedmodels"
    for name, source, labels in (
        ("vww", published / "vww_96_savedmodel", 2),
        ("openmv", published / "arm_openmv_savedmodel/model", 5),
        ("kws", published / "kws_savedmodel_audio", 12),
    ):
        shutil.copytree(source, folder / name / "1")
        (folder / name / "1.txt").write_text("\n".join(f"label {number}" for number in range(labels)))
        (folder / name / "1.yaml").write_text("mean: 0\nstd: 255\n")
    managed = Managed(folder)
    await managed.start()
    assert {name: managed.reason(name) for name in ("vww", "openmv")} == {"vww": "", "openmv": ""}
    assert [managed.version(name) for name in ("vww", "openmv", "kws")] == [1, 1, None]
    assert "looks like audio features" in managed.reason("kws")
    assert json.loads(managed.history._path.read_text())["models"].keys() == {"vww", "openmv"}

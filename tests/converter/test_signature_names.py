"""Names of the input and output in the finished file, which clients of the SavedModel send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversions import QUIET, converted, finished_classifier, names, scores, write_labels

from agent.image import Image
from agent.model_file.metadata import read_model_file
from converter.packing.metadata import pack_metadata
from converter.packing.signature import with_signature
from converter.source.source import open_source

DIGITS = Path(__file__).parents[2] / "demo" / "digits.tflite"
ODD = ("images-1/größe:0", "Scores of the model")  # TensorFlow 1 allows any text


def test_names_in_the_file_are_replaced_and_its_answers_kept() -> None:
    before = DIGITS.read_bytes()
    named = with_signature(before, input_name=ODD[0], output_name=ODD[1])
    packed = pack_metadata(
        named, labels=list("0123456789"), mean=[0.0], std=[255.0], color="gray", name="digits", version="1"
    )
    file = read_model_file(packed)
    assert names(packed) == (file.inputs[0].alias, file.outputs[0].alias) == ODD
    assert (file.inputs[0].name, file.outputs[0].name) == ("serving_default_image:0", "StatefulPartitionedCall:0")
    images = [Image(np.random.default_rng(seed).integers(0, 256, (32, 32), np.uint8), "gray") for seed in range(3)]
    old, new = (scores(finished_classifier(content), images) for content in (before, packed))
    np.testing.assert_array_equal(new, old)


@pytest.mark.filterwarnings(*QUIET)
def test_names_of_a_tensorflow_1_signature_are_kept(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, 8, 8, 3))
        answers = tf.nn.softmax(tf.reduce_mean(images, (1, 2)))
        builder = v1.saved_model.Builder(str(tmp_path / "old"))
        signature = v1.saved_model.predict_signature_def({ODD[0]: images}, {ODD[1]: answers})
        builder.add_meta_graph_and_variables(session, ["serve"], {"predict": signature})
        builder.save()
    labels = write_labels(tmp_path / "labels.txt", "abc")
    converted(tmp_path / "old", tmp_path / "m.tflite", "none", labels=labels)
    assert names((tmp_path / "m.tflite").read_bytes()) == ODD


def network(keras: Any, outputs: str) -> Any:
    """Of the images `photo`; with outputs of four, or of four and three values."""
    layers = keras.layers
    if outputs == "of a sequence":
        return keras.Sequential([layers.Input((8, 8, 3), name="photo"), layers.Flatten(), layers.Dense(4, name="four")])
    image = layers.Input((8, 8, 3), name="photo")
    flat = layers.Flatten()(image)
    four, three = layers.Dense(4, name="four")(flat), layers.Dense(3, name="three")(flat)
    return keras.Model(
        image, {"one": four, "several": [four, three], "named": {"kinds": four, "colors": three}}[outputs]
    )


@pytest.mark.parametrize("outputs", ["of a sequence", "one", "several", "named"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings(*QUIET, "ignore:You are saving your model as an HDF5 file")
@pytest.mark.long
def test_keras_files_have_the_names_that_keras_gives_to_its_saved_model(
    version: int, outputs: str, tmp_path: Path
) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    if version == 2:
        import tf_keras as keras  # noqa: PLC0415  (rarely needed)

        model = network(keras, outputs)
        model.save(tmp_path / "saved")
    else:
        model = network(tf.keras, outputs)
        model.export(str(tmp_path / "saved"), verbose=False)
    exported = open_source(tmp_path / "saved").signatures[-1]
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        (signature,) = open_source(tmp_path / name).signatures
        assert [tensor.name for tensor in signature.inputs] == [tensor.name for tensor in exported.inputs]
        assert sorted(map(str, signature.outputs)) == sorted(map(str, exported.outputs))

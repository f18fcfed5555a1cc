"""Trained models in every supported format, and the errors for damaged ones."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import converted

from agent.errors import ModelError, SignatureError
from agent.host.digest import sha256_of_folder
from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.saved_model import TensorFlowClassifier, image_function
from agent.runtimes.tensorflow import first_line
from converter.errors import TrainedModelError, UsageError
from converter.source.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.runtimes.saved_model import ImageFunction

tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
layers = tf.keras.layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # Keras saves

SMALL_PARAMETERS = (27 * 8 + 4 * 8) + (9 * 8 * 16 + 4 * 16) + (9 * 16 * 16 + 4 * 16) + (16 * 4 + 4)


@pytest.fixture
def gradient() -> Any:
    """An image of 32 x 32 pixels in 0..1, all different."""
    return tf.reshape(tf.range(32 * 32 * 3, dtype=tf.float32) / (32 * 32 * 3), (1, 32, 32, 3))


@pytest.fixture
def copied(small_saved_model: Path, tmp_path: Path) -> Path:
    """A copy of the small SavedModel that a test can damage."""
    return shutil.copytree(small_saved_model, tmp_path / "copied")


@pytest.fixture(scope="module")
def module() -> Any:
    """One convolution with 3 x 3 x 3 x 5 weights."""
    module = tf.Module()
    module.weights = tf.Variable(tf.random.stateless_normal((3, 3, 3, 5), seed=(1, 2)))
    return module


def scores_of(path: Path, image: Any) -> Any:
    function = image_function(open_source(path), key=None, size=None)
    assert function.input.shape == image.shape
    return function.concrete(image).numpy()


def refusal(path: Path) -> str:
    """The error message for `path`."""
    with pytest.raises((ModelError, TrainedModelError)) as raised:
        image_function(open_source(path), key=None, size=None)
    message = str(raised.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert message.endswith(".")
    assert len(message) < 600
    return message


def save_with_input(module: Any, dtype: str, path: Path) -> Path:
    def answers(pixels: Any) -> dict[str, Any]:
        maps = tf.nn.conv2d(tf.cast(pixels, tf.float32), module.weights, 1, "SAME")
        return {"answers": tf.nn.softmax(tf.reduce_mean(maps, (1, 2)) / 100)}

    pixels = tf.TensorSpec((None, 16, 16, 3), dtype, name="pixels")
    tf.saved_model.save(module, str(path), signatures=tf.function(answers, input_signature=[pixels]))
    return path


def test_keras_3_saved_model_gives_the_scores_of_keras(
    small_saved_model: Path, small_model: Any, gradient: Any
) -> None:
    source = open_source(small_saved_model)
    assert (source.kind, source.keras) == (f"SavedModel of TensorFlow {tf.__version__}", "3, or 2 by export()")
    assert [signature.key for signature in source.signatures] == ["serve", "serving_default"]
    np.testing.assert_allclose(scores_of(small_saved_model, gradient), small_model(gradient), atol=1e-6)


def test_parameter_count_excludes_the_optimizer(small_saved_model: Path, small_model: Any) -> None:
    assert small_model.count_params() == SMALL_PARAMETERS
    assert len(small_model.optimizer.variables) > 0
    assert open_source(small_saved_model).parameters("serving_default") == SMALL_PARAMETERS


def clone(model: Any) -> Any:
    """A copy, since saving as .h5 changes how Keras later saves the same object, which all tests share."""
    copy = tf.keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


@pytest.mark.parametrize("name", ["small.keras", "small.h5"])
def test_keras_3_file_gives_the_scores_of_keras(name: str, small_model: Any, gradient: Any, tmp_path: Path) -> None:
    clone(small_model).save(tmp_path / name)
    source = open_source(tmp_path / name)
    assert source.kind == f"Keras {(tmp_path / name).suffix} file"
    assert (source.keras, source.parameters("call")) == (tf.keras.__version__, SMALL_PARAMETERS)
    assert source.size_bytes == (tmp_path / name).stat().st_size
    np.testing.assert_allclose(scores_of(tmp_path / name, gradient), small_model(gradient), atol=1e-6)


@pytest.mark.parametrize(("name", "key"), [("old.keras", "call"), ("old.h5", "call"), ("old", "serving_default")])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_keras_2_files_give_the_scores_of_keras(name: str, key: str, gradient: Any, tmp_path: Path) -> None:
    import tf_keras  # noqa: PLC0415  (rarely needed)

    old = tf_keras.Sequential(
        [
            tf_keras.layers.Input((32, 32, 3)),
            tf_keras.layers.Conv2D(4, 3),
            tf_keras.layers.GlobalAveragePooling2D(),
            tf_keras.layers.Dense(4, activation="softmax"),
        ]
    )
    old.save(tmp_path / name)
    source = open_source(tmp_path / name)
    assert (source.keras, source.parameters(key)) == (tf_keras.__version__, 27 * 4 + 4 + 16 + 4)
    np.testing.assert_allclose(scores_of(tmp_path / name, gradient), old(gradient), atol=1e-6)


@pytest.mark.assets
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "keras", "shape", "parameters"),
    [
        ("savedmodels/vww_96_savedmodel", "3, or 2 by export()", (1, 96, 96, 3), 221794),
        ("savedmodels/arm_openmv_savedmodel/model", "2.8.0", (1, 160, 120, 1), 219685),
        ("h5/vww_96.h5", "2.4.0", (1, 96, 96, 3), 221794),
    ],
)
def test_published_models_can_be_read(
    name: str, keras: str, shape: tuple[int, ...], parameters: int, assets: Path
) -> None:
    source = open_source(assets / name)
    function = image_function(source, key=None, size=None)
    assert (source.keras, source.parameters(function.key)) == (keras, parameters)
    assert function.input.shape == shape
    np.testing.assert_allclose(function.concrete(tf.zeros(shape)).numpy().sum(), 1, atol=1e-5)


@pytest.mark.assets
@pytest.mark.long
def test_published_saved_model_and_h5_file_give_the_same_scores(assets: Path) -> None:
    image = tf.random.stateless_uniform((1, 96, 96, 3), seed=(3, 4))
    saved_model = scores_of(assets / "savedmodels" / "vww_96_savedmodel", image)
    np.testing.assert_allclose(saved_model, scores_of(assets / "h5" / "vww_96.h5", image), atol=1e-5)


def test_tensorflow_1_saved_model_can_be_read(tmp_path: Path) -> None:
    v1, path = tf.compat.v1, tmp_path / "old"
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, 16, 16, 3))
        weights = v1.get_variable("weights", (3, 3, 3, 5))
        logits = tf.reduce_mean(tf.nn.conv2d(images, weights, 1, "SAME"), (1, 2))
        outputs = {"classes": tf.argmax(logits, 1), "logits": logits, "probabilities": tf.nn.softmax(logits)}
        session.run(v1.global_variables_initializer())
        expected = session.run(outputs["probabilities"], {images: np.ones((1, 16, 16, 3))})
        builder = v1.saved_model.Builder(str(path))
        signature = v1.saved_model.predict_signature_def({"images": images}, outputs)
        builder.add_meta_graph_and_variables(session, ["serve"], {"predict": signature})
        builder.save()
    source = open_source(path)
    assert (source.keras, source.parameters("predict")) == (None, 3 * 3 * 3 * 5)
    np.testing.assert_allclose(scores_of(path, tf.ones((1, 16, 16, 3))), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int32"])
def test_float_image_is_cast_to_the_input_type(dtype: str, module: Any, tmp_path: Path) -> None:
    source = open_source(save_with_input(module, dtype, tmp_path / dtype))
    assert source.signatures[0].inputs[0].dtype == dtype
    function = image_function(source, key=None, size=None)
    assert (function.input.dtype, function.output.dtype) == ("float32", "float32")
    maps = tf.nn.conv2d(tf.fill((1, 16, 16, 3), 200.0), module.weights, 1, "SAME")
    scores = function.concrete(tf.fill((1, 16, 16, 3), 200.0))
    np.testing.assert_allclose(scores, tf.nn.softmax(tf.reduce_mean(maps, (1, 2)) / 100), atol=1e-5)


def test_half_precision_scores_are_cast_to_float32(tmp_path: Path) -> None:
    model = tf.keras.Sequential([layers.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3, dtype="float16")])
    model.export(str(tmp_path / "half"), verbose=False)
    source = open_source(tmp_path / "half")
    assert source.signatures[0].outputs[0].dtype == "float16"
    assert image_function(source, key=None, size=None).concrete(tf.ones((1, 8, 8, 3))).dtype == tf.float32


@pytest.mark.parametrize("name", ["named.keras", "named.h5"])
def test_model_with_named_inputs_and_outputs_can_be_called(name: str, tmp_path: Path) -> None:
    image = layers.Input((8, 8, 3), name="photo")
    model = tf.keras.Model({"photo": image}, {"kind": layers.Dense(3)(layers.Flatten()(image))})
    model.save(tmp_path / name)
    expected = model({"photo": tf.ones((1, 8, 8, 3))})["kind"]
    np.testing.assert_allclose(scores_of(tmp_path / name, tf.ones((1, 8, 8, 3))), expected, atol=1e-6)


def test_open_input_size_is_fixed_and_a_too_small_size_is_refused(tmp_path: Path) -> None:
    open_model = tf.keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(4, 5)])
    open_model.add(layers.GlobalAveragePooling2D())
    open_model.export(str(tmp_path / "open"), verbose=False)
    source = open_source(tmp_path / "open")
    assert image_function(source, key=None, size=(40, 60)).concrete(tf.zeros((1, 40, 60, 3))).shape == (1, 4)
    with pytest.raises(SignatureError, match="has no fixed input size"):
        image_function(source, key=None, size=None)
    with pytest.raises(ModelError, match=r"^\S+ does not accept an image of 2 x 60 x 3: .*Negative dimension.*\.$"):
        image_function(source, key=None, size=(2, 60))


def test_after_inserts_a_step_before_the_model(small_saved_model: Path, gradient: Any) -> None:
    function = image_function(open_source(small_saved_model), key=None, size=None)
    turned = function.after(lambda image: tf.reverse(image, [-1])).concrete(gradient)
    np.testing.assert_allclose(turned, function.concrete(tf.reverse(gradient, [-1])), atol=1e-6)


def test_source_classifies_an_image_like_the_agent(small_function: ImageFunction) -> None:
    settings = ModelSettings(("blue", "gray", "green", "red"), mean=(0.0,), std=(255.0,), score="probability")
    red = Image(np.full((50, 70, 3), (190, 50, 50), np.uint8), "rgb")
    scores, _ = TensorFlowClassifier(small_function, settings).scores(red)
    categories = scores.best(1, threshold=0.5)
    assert [category.label for category in categories] == ["red"]


@pytest.fixture
def small_function(small_saved_model: Path) -> ImageFunction:
    return image_function(open_source(small_saved_model), key=None, size=None)


def test_hash_is_equal_for_a_copy_and_differs_after_one_changed_byte(copied: Path, small_saved_model: Path) -> None:
    assert open_source(copied).sha256 == open_source(small_saved_model).sha256
    weights = copied / "variables" / "variables.data-00000-of-00001"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    # TensorFlow refuses weights with a wrong checksum
    assert sha256_of_folder(copied) != sha256_of_folder(small_saved_model)


def test_renamed_file_changes_the_hash(copied: Path) -> None:
    before = open_source(copied).sha256
    (copied / "fingerprint.pb").rename(copied / "fingerprint.pbx")
    assert open_source(copied).sha256 != before


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def without_variables(path: Path) -> None:
    shutil.rmtree(path / "variables")


def without_index(path: Path) -> None:
    (path / "variables" / "variables.index").unlink()


def without_data(path: Path) -> None:
    (path / "variables" / "variables.data-00000-of-00001").unlink()


def with_half_the_data(path: Path) -> None:
    cut(path / "variables" / "variables.data-00000-of-00001", 0.5)


def with_half_the_graph(path: Path) -> None:
    cut(path / "saved_model.pb", 0.5)


def with_an_empty_graph(path: Path) -> None:
    cut(path / "saved_model.pb", 0)


def without_graph(path: Path) -> None:
    (path / "saved_model.pb").unlink()


def with_a_graph_for_training(path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415  (not without TensorFlow)

    proto = SavedModel()
    proto.ParseFromString((path / "saved_model.pb").read_bytes())
    proto.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    (path / "saved_model.pb").write_bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_variables, "has no variables/variables.index. Copy the whole SavedModel"),
        (without_index, "has no variables/variables.index. Copy the whole SavedModel"),
        (without_data, "variables.data-00000-of-00001; No such file or directory. Copy the whole folder again"),
        (with_half_the_data, "cannot be loaded: Read less bytes than requested. Copy the whole folder again"),
        (with_half_the_graph, "saved_model.pb is damaged: Error parsing message"),
        (with_an_empty_graph, "saved_model.pb is empty. Copy it again."),
        (without_graph, "is not a SavedModel: it has no saved_model.pb. Give the folder that model.export wrote."),
        (with_a_graph_for_training, "contains no graph for serving (the tag `serve`). Save the model again."),
    ],
)
def test_damaged_saved_model_is_refused_in_one_sentence(
    damage: Callable[[Path], None], message: str, copied: Path
) -> None:
    damage(copied)
    assert message in refusal(copied)


@pytest.mark.assets
def test_keyword_spotter_is_refused_with_its_input_shape(assets: Path) -> None:
    message = refusal(assets / "savedmodels" / "kws_savedmodel_audio")
    assert "its input is 49 x 10, which looks like audio features" in message
    assert "dense: float32 ? x 12" in message


def test_saved_model_without_signatures_is_refused(module: Any, tmp_path: Path) -> None:
    tf.saved_model.save(module, str(tmp_path / "bare"))
    assert refusal(tmp_path / "bare").startswith("The SavedModel has no signature.")


@pytest.mark.parametrize(("name", "said"), [("m.keras", "is an incomplete archive."), ("m.h5", "or damaged: ")])
def test_truncated_keras_file_is_refused_in_one_sentence(
    name: str, said: str, small_model: Any, tmp_path: Path
) -> None:
    clone(small_model).save(tmp_path / name)
    cut(tmp_path / name, 0.5)
    assert said in refusal(tmp_path / name)


def test_weights_file_is_refused_with_a_remedy(small_model: Any, tmp_path: Path) -> None:
    small_model.save_weights(tmp_path / "m.weights.h5")
    assert refusal(tmp_path / "m.weights.h5") == (
        f"{tmp_path / 'm.weights.h5'} contains no model, at most weights. Save the whole model: model.save(file)."
    )


@pytest.mark.parametrize("name", ["own.keras", "own.h5"])
def test_custom_layer_is_refused_by_name(name: str, tmp_path: Path) -> None:
    class Doubling(layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, image: Any) -> Any:
            return 2 * image

    tf.keras.Sequential([layers.Input((8, 8, 3)), Doubling(), layers.Flatten()]).save(tmp_path / name)
    assert refusal(tmp_path / name) == (
        f"{tmp_path / name} cannot be loaded: the code of its layer 'Doubling' is not in the file. "
        "Export the model as a SavedModel in the program that trained it: model.export(folder)."
    )


def test_missing_source_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent") == f"{tmp_path / 'absent'} does not exist."


def test_model_with_integer_input_requires_mean_0_and_std_1(tmp_path: Path, color_images: Path) -> None:
    image = layers.Input((32, 32, 3), dtype="uint8")
    scaled = layers.Rescaling(1 / 255)(layers.Lambda(lambda pixels: tf.cast(pixels, tf.float32))(image))
    scores = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(scaled))
    tf.keras.Model(image, scores).export(str(tmp_path / "bytes"), verbose=False)
    with pytest.raises(UsageError, match=r"^The model takes raw uint8 pixels\. Use --mean 0 --std 1\.$"):
        converted(tmp_path / "bytes", tmp_path / "b.tflite", "none", calibration=color_images)
    done = converted(tmp_path / "bytes", tmp_path / "b.tflite", "none", std=(1.0,), evaluation=color_images)
    assert done.models[0].evaluation is not None
    assert done.models[0].evaluation.agreement == 1


def test_mixed_precision_model_is_converted(tmp_path: Path, color_images: Path) -> None:
    image = layers.Input((32, 32, 3))
    convolved = layers.Conv2D(4, 3, dtype="mixed_float16")(image)
    scores = layers.Dense(4, activation="softmax", dtype="float32")(layers.GlobalAveragePooling2D()(convolved))
    tf.keras.Model(image, scores).export(str(tmp_path / "mixed"), verbose=False)
    (model,) = converted(tmp_path / "mixed", tmp_path / "m.tflite", "none", evaluation=color_images).models
    assert model.refusal is None
    assert model.evaluation is not None
    assert model.evaluation.agreement == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_model_without_one_score_per_label_is_refused(tmp_path: Path, rank: int) -> None:
    spec = tf.TensorSpec((None, 8, 8, 3), tf.float32, "image")
    odd = tf.Module()
    odd.serve = tf.function(lambda image: {"out": tf.reduce_mean(image, axis=list(range(4 - rank)))}, [spec])
    tf.saved_model.save(odd, str(tmp_path / "odd"), signatures={"serving_default": odd.serve})
    assert "\n" not in refusal(tmp_path / "odd")


def test_average_of_softmaxes_is_recognized_as_probabilities(tmp_path: Path, color_images: Path) -> None:
    image = layers.Input((32, 32, 3))
    pooled = layers.GlobalAveragePooling2D()(image)
    both = [layers.Dense(4, activation="softmax")(pooled) for _ in range(2)]
    tf.keras.Model(image, layers.Average()(both)).export(str(tmp_path / "both"), verbose=False)
    converted(tmp_path / "both", tmp_path / "b.tflite", "none", evaluation=color_images)
    assert read_model_file((tmp_path / "b.tflite").read_bytes()).settings.score == "probability"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("it is bad.\nmore", "it is bad"),
        ("4 objects could not be loaded. For example, <Dense name=a>:\n\nno kernel", None),
        ("{{function_node __wrapped__X_device_/job:a}} OOM when allocating [Op:X] name: ", "OOM when allocating"),
    ],
)
def test_first_line_is_a_whole_sentence_without_names_of_operators(message: str, line: str | None) -> None:
    assert first_line(ValueError(message)) == (line or " ".join(message.split()))

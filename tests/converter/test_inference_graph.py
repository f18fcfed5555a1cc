"""Models in a form for training: in 16 bits, with augmentation, pruned, quantized by Keras, with preprocessing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import QUIET, converted, untracked

from agent.errors import AgentError, ModelError
from agent.runtimes.saved_model import image_function
from converter.errors import ConversionError, TrainedModelError
from converter.inspection import inspect_source
from converter.source.inference_graph import for_inference
from converter.source.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

tf = pytest.importorskip("tensorflow", reason="TensorFlow has an environment of its own: .venv-converter")
layers = tf.keras.layers

QUANTIZING = "ignore:Layer .* does not have a `quantize` method:UserWarning"  # of the input layer, for example
pytestmark = [pytest.mark.long, *map(pytest.mark.filterwarnings, (*QUIET, QUANTIZING))]

MODELS = Path(__file__).parent / "models"
FORMS = ("export", "m.keras", "m.h5")


def saved(model: Any, path: Path) -> Path:
    """As an exported SavedModel if `path` is named export, or else as a file of Keras."""
    if path.name == "export":
        model.export(str(path), verbose=False)
    else:
        model.save(path)
    return path


def classifier(*before: Any, dtype: str = "float32", keras: Any = tf.keras) -> Any:
    """A model of images in 0..255 with the layers `before` its convolution, which computes in `dtype`."""
    keras.utils.set_random_seed(1)
    image = keras.layers.Input((32, 32, 3))
    answer = image
    for layer in before:
        answer = layer(answer)
    answer = keras.layers.Conv2D(8, 3, activation="relu", dtype=dtype)(keras.layers.Rescaling(1 / 255)(answer))
    answer = keras.layers.GlobalAveragePooling2D(dtype=dtype)(answer)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax", dtype="float32")(answer))


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)


def scores_of(path: Path, image: npt.NDArray[np.float32]) -> Any:
    return for_inference(image_function(open_source(path), key=None, size=None)).concrete(tf.constant(image)).numpy()


@pytest.mark.parametrize(
    ("dtype", "form"),
    [*(("mixed_float16", form) for form in FORMS), ("mixed_bfloat16", "export"), ("float64", "m.keras")],
)
def test_mixed_precision_model_is_computed_in_float32(
    dtype: str, form: str, image: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    model = classifier(dtype=dtype)
    exact = tf.keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": "float32"},
        ),
    )
    exact.set_weights(model.get_weights())
    np.testing.assert_allclose(scores_of(saved(model, tmp_path / form), image), exact(image), atol=1e-5)


@pytest.mark.parametrize("form", ["export", "m.keras"])
def test_scores_in_bfloat16_are_computed_in_float32(form: str, image: npt.NDArray[np.float32], tmp_path: Path) -> None:
    model = tf.keras.Sequential(
        [layers.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(4, "softmax", dtype="mixed_bfloat16")]
    )
    np.testing.assert_allclose(scores_of(saved(model, tmp_path / form), image), model(image), atol=0.01)


@pytest.mark.parametrize("name", ["old.h5", "old"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_mixed_precision_model_of_keras_2_is_converted(name: str, color_images: Path, tmp_path: Path) -> None:
    import tf_keras  # noqa: PLC0415  (beside Keras 3, as few need it)

    classifier(dtype="mixed_float16", keras=tf_keras).save(tmp_path / name)
    (model,) = converted(
        tmp_path / name, tmp_path / "m.tflite", "int8", std=(1.0,), calibration=color_images, evaluation=color_images
    ).models
    assert model.refusal is None


AUGMENTATION: dict[str, Callable[[], list[Any]]] = {
    "geometry": lambda: [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1)],
    "color": lambda: [layers.RandomContrast(0.2), layers.RandomBrightness(0.2)],
    "nested": lambda: [tf.keras.Sequential([layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1)], name="aug")],
    "noise": lambda: [layers.GaussianNoise(1.0), layers.Dropout(0.5)],
}


@pytest.mark.parametrize(("kind", "form"), [*((kind, "export") for kind in AUGMENTATION), ("geometry", "m.keras")])
def test_augmentation_layers_return_their_input(
    kind: str, form: str, image: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    model = classifier(*AUGMENTATION[kind]())
    path = saved(model, tmp_path / form)
    np.testing.assert_allclose(scores_of(path, image), model(image, training=False), atol=1e-5)


def normalized(*before: Any, keras: Any = tf.keras) -> Any:
    """A model with the layers `before` a batch normalization whose averages are far from the figures of any image."""
    image = keras.layers.Input((32, 32, 3))
    answer = image
    for layer in before:
        answer = layer(answer)
    norm = keras.layers.BatchNormalization()
    answer = keras.layers.GlobalAveragePooling2D()(norm(answer))
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(answer))
    norm.set_weights([np.array(values, np.float32) for values in ([1, 2, 3], [0, 1, 0], [99, 60, 30], [900, 400, 100])])
    return model


NORMALIZED: dict[str, Callable[[Any], list[Any]]] = {
    "resized": lambda keras: [keras.layers.Resizing(24, 24)],
    "cropped": lambda keras: [keras.layers.CenterCrop(24, 24)],
    "augmented": lambda keras: [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)],
}


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "float16"])
@pytest.mark.parametrize("kind", NORMALIZED)
def test_batch_normalization_behind_layers_exported_as_in_training_uses_its_averages(
    kind: str, dtype: str, image: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    tf.keras.config.set_dtype_policy(dtype)
    try:
        model = normalized(*NORMALIZED[kind](tf.keras))
    finally:
        tf.keras.config.set_dtype_policy("float32")
    path = saved(model, tmp_path / "export")
    np.testing.assert_allclose(scores_of(path, image), model(image, training=False), atol=0.02)


def test_batch_normalization_of_keras_2_exported_as_in_training_uses_its_averages(
    image: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    import tf_keras  # noqa: PLC0415  (beside Keras 3, as few need it)

    model = normalized(*NORMALIZED["augmented"](tf_keras), keras=tf_keras)
    model.export(str(tmp_path / "export"))
    np.testing.assert_allclose(scores_of(tmp_path / "export", image), model(image, training=False), atol=1e-5)


def test_export_with_augmentation_has_all_operators_in_tensorflow_lite(tmp_path: Path) -> None:
    path = saved(classifier(*AUGMENTATION["geometry"]()), tmp_path / "export")
    document = inspect_source(path, track=untracked)
    signature = next(each for each in document["signatures"] if each["signature"] == "serving_default")
    assert (signature["image_classifier"], signature["lacks_in_tflite"]) == (True, [])


def test_random_crop_in_an_export_is_refused_by_name_and_its_keras_file_converted(tmp_path: Path) -> None:
    model = classifier(layers.RandomCrop(24, 24, name="cut"))
    with pytest.raises(
        ModelError, match=r"computes with random numbers \(in '\S+'\), as layers that augment images do"
    ):
        scores_of(saved(model, tmp_path / "export"), np.zeros((1, 32, 32, 3), np.float32))
    assert scores_of(saved(model, tmp_path / "m.keras"), np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 4)


@pytest.mark.parametrize("form", ["m.keras", "m.h5"])
def test_model_quantized_by_keras_gets_float_weights_again(
    form: str, image: npt.NDArray[np.float32], color_images: Path, tmp_path: Path
) -> None:
    model = classifier()
    exact = model(image).numpy()
    model.quantize("int8")
    path = saved(model, tmp_path / form)
    np.testing.assert_allclose(scores_of(path, image), exact, atol=0.01)
    (finished,) = converted(path, tmp_path / "m.tflite", "int8", std=(1.0,), calibration=color_images).models
    assert finished.refusal is None


def test_export_quantized_by_keras_is_refused_with_what_to_do(color_images: Path, tmp_path: Path) -> None:
    model = classifier()
    model.quantize("int8")
    path = saved(model, tmp_path / "export")
    (finished,) = converted(path, tmp_path / "m.tflite", "none", std=(1.0,), evaluation=color_images).models
    assert str(finished.refusal) == (
        "The model was quantized before its export, for example by quantize('int8') of Keras, which TensorFlow Lite "
        "cannot convert. Export it without that; edge-convert quantizes it itself."
    )


def test_model_quantized_to_fewer_bits_is_refused_with_what_to_do(tmp_path: Path) -> None:
    model = classifier()
    model.quantize("int4")
    with pytest.raises(TrainedModelError, match=r"Save the model before quantize\(\) is called on it"):
        open_source(saved(model, tmp_path / "m.keras"))


def test_pruned_model_is_read_without_its_wrappers() -> None:
    scores = scores_of(MODELS / "pruned.h5", np.full((1, 16, 16, 3), 0.5, np.float32))
    np.testing.assert_allclose(scores, [[0.2713422, 0.41569915, 0.18180963, 0.13114901]], atol=1e-6)


def test_pruned_archive_is_refused_with_what_to_do(tmp_path: Path) -> None:
    shutil.copy(MODELS / "pruned.keras", tmp_path)
    with pytest.raises(
        TrainedModelError,
        match=r"wrapped in PruneLowMagnitude, which only training .*tfmot\.sparsity\.keras\.strip_pruning\(model\)",
    ):
        open_source(tmp_path / "pruned.keras")


def preprocessed(how: str) -> Any:
    image = layers.Input((32, 32, 3))
    answer = layers.Conv2D(8, 3, activation="relu")(getattr(tf.keras.applications, how).preprocess_input(image))
    return tf.keras.Model(image, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(answer)))


@pytest.mark.parametrize("form", ["export", "m.keras"])
@pytest.mark.parametrize("how", ["resnet50", "mobilenet_v2"])
def test_model_with_preprocessing_inside_takes_raw_uint8_pixels(
    how: str, form: str, color_images: Path, tmp_path: Path
) -> None:
    path = saved(preprocessed(how), tmp_path / form)
    (finished,) = converted(
        path, tmp_path / "m.tflite", "int8", std=(1.0,), calibration=color_images, evaluation=color_images
    ).models
    assert finished.refusal is None
    assert finished.evaluation is not None
    assert (finished.evaluation.agreement or 0) > 0.9


def test_operation_between_layers_in_hdf5_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as raised:
        open_source(saved(preprocessed("mobilenet_v2"), tmp_path / "m.h5"))
    assert "between its layers, which Keras cannot read from HDF5. Save the model in Keras' own format" in str(
        raised.value
    )


@pytest.mark.parametrize(
    "complaint",
    [
        "/x/y.py:42:1: error: 'tfl.fully_connected' op operand #0 must be 32-bit float, but got 'tensor<1x8xf32>'",
        'loc(callsite(fused["Conv2D:"] at "a.py")): error: failed while converting: %3 = "tf.Conv2D"',
        "word " * 200,
        "It fails./x/y.py:1:2: error: Failed to convert element type 'f8E4M3FN': Unsupported type",
    ],
)
def test_error_of_the_compiler_is_neither_raw_nor_cut_in_a_word(complaint: str) -> None:
    from converter.quantization import _failures_as_conversion_errors  # noqa: PLC0415  (not without TensorFlow)

    with pytest.raises(ConversionError) as raised, _failures_as_conversion_errors("int8"):
        raise RuntimeError(complaint)
    said = str(raised.value)
    assert not any(raw in said for raw in ("tensor<", "loc(", "'tfl.", "%3", ".py"))
    assert {"wor", "wo", "w"}.isdisjoint(said.replace(".", " ").split())
    assert len(said) < 400

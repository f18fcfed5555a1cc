"""Quantization: the input of int8 files, the error that int8 adds to each layer, and --keep-float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import (
    EXACT,
    QUANTIZED,
    QUIET,
    TOLERANCE,
    contents,
    converted,
    finished_classifier,
    largest_difference,
    readable_images,
    scores,
    source_classifier,
)

from agent.image import Image
from agent.model_file.flatbuffer import INT8, INT32, UINT32, Table
from agent.model_file.metadata import read_model_file
from converter.errors import ConversionError, DropError, UsageError
from converter.quantization import _layer_names

if TYPE_CHECKING:
    from pathlib import Path

    from converter.conversion import Conversion
    from converter.quantization import Scheme

pytestmark = pytest.mark.filterwarnings(*QUIET)

COLORS = ("blue", "gray", "green", "red")
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
CAFFE = {"mean": (103.939, 116.779, 123.68), "std": (1.0,), "color": "bgr"}
CONV_2D, FULLY_CONNECTED = 3, 9
FLOAT32, INT8_TENSOR = 0, 9


def save_model(path: Path, *, spread: float) -> Path:
    """Four scores of an image of about -2 to 2 times `spread`; swapping red and blue changes the scores."""
    tf = pytest.importorskip("tensorflow")
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(3)
    image = layers.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / spread, name="rescaling")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    tf.keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(x)).save(path)
    return path


@pytest.fixture(scope="module")
def rgb_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("rgb") / "rgb.keras", spread=1)


@pytest.fixture(scope="module")
def bgr_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("bgr") / "bgr.keras", spread=64)


@pytest.fixture(scope="module")
def fragile_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that classifies blue, gray, green and red, and that int8 ruins.

    Layer `spread` outputs the three colors, which are relevant, and a thousand times their sum, which sets the range
    of all; `gather` scales them back.
    """
    tf = pytest.importorskip("tensorflow")
    layers = tf.keras.layers
    image = layers.Input((32, 32, 3), name="image")
    x = layers.Conv2D(6, 1, use_bias=False, activation="relu", name="blend")(image)
    x = layers.Conv2D(4, 1, use_bias=False, activation="relu", name="spread")(x)
    x = layers.Conv2D(4, 1, use_bias=False, activation="relu", name="gather")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = tf.keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(x))
    colors = np.eye(3, dtype=np.float32)
    model.get_layer("blend").set_weights([np.hstack([colors, colors])[None, None]])
    spread = np.vstack([np.hstack([colors / 2, np.full((3, 1), 1000 / 3)])] * 2).astype(np.float32)
    model.get_layer("spread").set_weights([spread[None, None]])
    model.get_layer("gather").set_weights([np.diag([1, 1, 1, 0.001]).astype(np.float32)[None, None]])
    blue, gray, green, red = [0, 0, 30, 0], [0, 0, 0, 0], [0, 30, 0, 0], [30, 0, 0, 0]
    weights = np.array([blue, gray, green, red], np.float32).T
    model.get_layer("scores").set_weights([weights, np.array([0, 18, 0, 0], np.float32)])
    path = tmp_path_factory.mktemp("fragile") / "fragile.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def explained(fragile_model: Path, color_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return converted(
        fragile_model,
        tmp_path_factory.mktemp("explained") / "fragile.tflite",
        "int8",
        calibration=color_images,
        evaluation=color_images,
        max_drop=0.02,
        explain=True,
    )


def operator_types(content: bytes) -> dict[int, set[int]]:
    """The types of the outputs of each builtin operator, both as numbers of schema.fbs."""
    model = Table.root(content)
    codes = [max(code.scalar(0, INT8), code.scalar(3, INT32)) for code in model.tables(1)]
    graph = model.tables(2)[0]
    types = [tensor.scalar(1, INT8) for tensor in graph.tables(0)]
    found: dict[int, set[int]] = {}
    for operator in graph.tables(3):
        outputs = operator.numbers(2, INT32)
        found.setdefault(codes[operator.scalar(0, UINT32)], set()).update(types[index] for index in outputs)
    return found


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        *((0.0, 255.0), (127.5, 127.5), (0.0, 1.0), (100.0, 33.3)),
        *(pytest.param(*each, marks=pytest.mark.long) for each in ((128.0, 64.0), (255.0, 255.0))),
    ],
)
def test_uint8_input_takes_raw_pixels(
    rgb_model: Path, color_images: Path, tmp_path: Path, mean: float, std: float
) -> None:
    conversion = converted(rgb_model, tmp_path / "m.tflite", "int8", calibration=color_images, mean=(mean,), std=(std,))
    (image,) = read_model_file(contents(conversion)["int8"]).inputs
    assert image.dtype == "uint8"
    assert image.scale == pytest.approx(1 / std, rel=0.005)
    assert image.zero_point == pytest.approx(mean, abs=1)


@pytest.mark.parametrize(
    "fed",
    [
        IMAGENET,
        {"mean": (127.5,), "std": (127.5,), "color": "bgr"},
        pytest.param({"mean": (120.0,), "std": (58.0, 57.0, 56.0)}, marks=pytest.mark.long),
        pytest.param({"mean": (100.0, 110.0, 120.0), "std": (64.0,)}, marks=pytest.mark.long),
        pytest.param({"mean": (-10.0,), "std": (100.0,)}, marks=pytest.mark.long),
        pytest.param({"mean": (300.0,), "std": (100.0,)}, marks=pytest.mark.long),
        pytest.param({"mean": (255.0,), "std": (-255.0,)}, marks=pytest.mark.long),
    ],
    ids=str,
)
@pytest.mark.parametrize("pixels", ["uint8", pytest.param("int8", marks=pytest.mark.long)])
def test_converted_model_answers_like_the_source_for_every_normalization(
    rgb_model: Path, color_images: Path, tmp_path: Path, fed: dict[str, Any], pixels: str
) -> None:
    schemes: tuple[Scheme, ...] = ("int8", "none")
    conversion = converted(rgb_model, tmp_path / "m.tflite", *schemes, calibration=color_images, pixels=pixels, **fed)
    images = readable_images(color_images).values()
    values = max(len(fed["mean"]), len(fed["std"]))
    every = {key: fed[key] * (values // len(fed[key])) for key in ("mean", "std")}
    exact = scores(source_classifier(rgb_model, COLORS, **fed | every), images)
    files = contents(conversion)
    assert read_model_file(files["int8"]).inputs[0].dtype == pixels
    assert largest_difference(scores(finished_classifier(files["none"]), images), exact) < EXACT
    assert largest_difference(scores(finished_classifier(files["int8"]), images), exact) < QUANTIZED


@pytest.mark.parametrize("scheme", ["int8", "none"])
def test_three_means_move_into_the_graph(rgb_model: Path, color_images: Path, tmp_path: Path, scheme: Scheme) -> None:
    """MediaPipe supports no mean per channel, and the single scale of a uint8 input cannot express it."""
    conversion = converted(rgb_model, tmp_path / "m.tflite", scheme, calibration=color_images, **IMAGENET)
    file = read_model_file(contents(conversion)[scheme])
    if scheme == "int8":
        assert (file.inputs[0].scale, file.inputs[0].zero_point) == (1.0, 0)
    assert (file.settings.mean, file.settings.std) == ((0.0,), (1.0,))
    provenance = file.provenance or {}
    assert provenance["fed"] == {key: list(value) for key, value in IMAGENET.items()} | {"color": "rgb"}


def test_three_equal_means_are_stored_as_one(rgb_model: Path, color_images: Path, tmp_path: Path) -> None:
    fed: dict[str, Any] = {"mean": (127.5, 127.5, 127.5), "std": (64.0,), "calibration": color_images}
    settings = read_model_file(contents(converted(rgb_model, tmp_path / "m.tflite", "none", **fed))["none"]).settings
    assert (settings.mean, settings.std) == ((127.5,), (64.0,))


@pytest.mark.parametrize("pixels", ["uint8", pytest.param("int8", marks=pytest.mark.long)])
def test_model_trained_on_bgr_becomes_an_rgb_file(
    bgr_model: Path, color_images: Path, tmp_path: Path, pixels: str
) -> None:
    schemes: tuple[Scheme, ...] = ("int8", "int8-float", "none")
    conversion = converted(bgr_model, tmp_path / "m.tflite", *schemes, calibration=color_images, pixels=pixels, **CAFFE)
    images = list(readable_images(color_images).values())
    source = source_classifier(bgr_model, COLORS, **CAFFE | {"std": (1.0, 1.0, 1.0)})
    exact = scores(source, images)
    swapped = scores(source, [Image(image.pixels, "rgb") for image in images])  # they are BGR
    assert largest_difference(exact, swapped) > 3 * QUANTIZED
    for scheme, content in contents(conversion).items():
        assert read_model_file(content).settings.color == "rgb"
        assert largest_difference(scores(finished_classifier(content), images), exact) < TOLERANCE[scheme], scheme


def test_plain_tflite_interpreter_takes_raw_rgb_pixels(bgr_model: Path, color_images: Path, tmp_path: Path) -> None:
    conversion = converted(bgr_model, tmp_path / "m.tflite", "int8", calibration=color_images, **CAFFE)
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        model_content=contents(conversion)["int8"]
    )
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    red = np.full((32, 32, 3), (190, 50, 50), np.uint8)
    interpreter.set_tensor(taken["index"], red[None])
    interpreter.invoke()
    answer = interpreter.get_tensor(given["index"]) / 256
    exact = scores(source_classifier(bgr_model, COLORS, **CAFFE | {"std": (1.0, 1.0, 1.0)}), [Image(red, "rgb")])
    assert largest_difference(answer, exact) < QUANTIZED


def test_fragile_model_in_int8_is_refused_by_max_drop(explained: Conversion) -> None:
    (model,) = explained.models
    assert model.evaluation is not None
    assert model.evaluation.answers[0].accuracy(model.evaluation.truth, among=1) == 1.0
    assert model.evaluation.drop > 0.5
    assert isinstance(model.refusal, DropError)
    assert not model.path.exists()


def test_explain_ranks_the_worst_layer_first_with_its_keras_name(explained: Conversion) -> None:
    first, *others = explained.layers
    assert (first.name, first.operator, first.feeds) == ("spread", "CONV_2D", ("gather",))
    assert first.error > 0.5
    assert {layer.name for layer in others} >= {"blend", "gather", "scores"}
    errors = [layer.error for layer in explained.layers]
    assert errors == sorted(errors, reverse=True)


def test_keep_float_restores_the_answers_and_keeps_other_layers_int8(
    explained: Conversion, fragile_model: Path, color_images: Path, tmp_path: Path
) -> None:
    worst = explained.layers[0]
    conversion = converted(
        fragile_model,
        tmp_path / "fixed.tflite",
        "int8",
        calibration=color_images,
        evaluation=color_images,
        max_drop=0.02,
        keep_float=(worst.name, *worst.feeds),
    )
    (model,) = conversion.models
    assert model.refusal is None
    assert model.evaluation is not None
    assert model.evaluation.drop <= 0.02
    content = model.path.read_bytes()
    assert operator_types(content)[CONV_2D] == {FLOAT32, INT8_TENSOR}
    assert operator_types(content)[FULLY_CONNECTED] == {INT8_TENSOR}
    file = read_model_file(content)
    assert file.inputs[0].dtype == "uint8"
    assert (file.provenance or {})["kept_float"] == ["spread", "gather"]


def test_unknown_layer_is_refused_with_similar_names(fragile_model: Path, color_images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The model has no layer 'spraed'\. Similar names: spread, "):
        converted(fragile_model, tmp_path / "m.tflite", "int8", calibration=color_images, keep_float=("spraed",))
    assert not (tmp_path / "m.tflite").exists()


def test_layers_of_an_exported_model_have_their_keras_names(
    small_saved_model: Path, color_images: Path, tmp_path: Path
) -> None:
    conversion = converted(small_saved_model, tmp_path / "m.tflite", "int8", calibration=color_images, explain=True)
    names = {layer.name for layer in conversion.layers}
    assert {"conv_0", "conv_1", "conv_2", "pool", "scores"} <= names
    assert all(0 <= layer.error < 0.5 for layer in conversion.layers)


def test_fused_layer_is_named_after_its_computing_operator() -> None:
    fused = "net/relu/Relu;net/norm/batchnorm/add_1;net/conv/convolution;net/norm/batchnorm/sub1"
    assert list(_layer_names([fused, "net/pool/Mean"], ["net/conv/kernel:0"]).values()) == ["conv", "pool"]


def test_duplicate_layer_name_includes_its_path() -> None:
    tensors = ["net/left/conv/Relu;net/left/conv/BiasAdd", "net/right/conv/BiasAdd", "net/scores/MatMul;net/scores/Add"]
    assert list(_layer_names(tensors, []).values()) == ["net/left/conv", "net/right/conv", "scores"]
    assert list(_layer_names(["net/add/add", "net/add/add_1"], []).values()) == ["net/add/add", "net/add/add_1"]


def test_layer_names_lose_the_numbers_of_keras_3_and_keep_those_of_training() -> None:
    trained = ["conv/kernel:0", "conv_1/kernel:0", "conv_2/kernel:0"]
    exported = [
        "net_1/conv_1/convolution",
        "net_1/conv_1_2/convolution",
        "net_1/conv_2_1/convolution",
        "net_1/pool_1/Mean",
    ]
    assert list(_layer_names(exported, trained).values()) == ["conv", "conv_1", "conv_2", "pool"]
    unchanged = ["net/conv/Conv2D", "net/conv_1/Conv2D", "net/conv_2/Conv2D", "net/pool_1/Mean"]
    assert list(_layer_names(unchanged, trained).values()) == ["conv", "conv_1", "conv_2", "pool_1"]


def test_int8_requires_calibration_and_explain_requires_int8(rgb_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--calibration DIR"):
        converted(rgb_model, tmp_path / "m.tflite", "int8")
    with pytest.raises(UsageError, match="apply only to int8"):
        converted(rgb_model, tmp_path / "m.tflite", "none", explain=True)


def test_error_of_tensorflow_is_cut_to_one_sentence(
    rgb_model: Path, color_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = pytest.importorskip("tensorflow")

    def fails(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("\n  the 12th pass failed.\n" + "loc(fused<...>)\n" * 500)

    monkeypatch.setattr(
        tf.lite.TFLiteConverter, "from_concrete_functions", lambda *_: type("", (), {"convert": fails})()
    )
    (model,) = converted(rgb_model, tmp_path / "m.tflite", "none", calibration=color_images).models
    assert isinstance(model.refusal, ConversionError)
    assert str(model.refusal) == (
        "TensorFlow cannot convert the model with --quantize none: the 12th pass failed. Try another scheme."
    )

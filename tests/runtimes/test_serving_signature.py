"""Tensors of clients: what each kind of model takes and returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agents.models_on_disk import DIGIT_LABELS, DIGITS, photo_of_3
from agents.tiny_models import TinyModel

from agent.errors import TensorError
from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.preprocessing import Preprocessor, quantized
from agent.runtimes.runtime import open_classifiers

if TYPE_CHECKING:
    from agent.runtimes.classifier import Classifier

PICTURE = Image(np.random.default_rng(3).integers(0, 256, (6, 9, 3), np.uint8))
NORMALIZED = (PICTURE.pixels.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
SETTINGS = ModelSettings(labels=("a", "b", "c"), mean=(127.5,), std=(127.5,))


def opened(content: bytes, settings: ModelSettings = SETTINGS) -> Classifier:
    file = read_model_file(content)
    (classifier,) = open_classifiers(file, file.settings.overridden_by(settings), workers=1, threads=1)
    return classifier


def network(dtype: str = "float32", shape: tuple[int, ...] = (1, 6, 9, 3), *, ends: str = "softmax") -> bytes:
    """Three values that depend on every value of the input."""
    model = TinyModel(5)
    quantization: dict[str, Any] = {"scale": 1 / 127.5, "zero_point": -1} if dtype == "int8" else {}
    image = model.image(*shape, dtype=dtype, **quantization)
    values = model.dequantized(image) if dtype == "int8" else image
    logits = model.dense(model.reshaped(values, 1, 162), 3, spread=0.1)
    return model.finish(logits if ends == "logits" else model.softmax(logits), names=("scores",))


def of_picture(classifier: Classifier) -> np.ndarray[Any, np.dtype[np.float32]]:
    return classifier.scores(PICTURE)[0].probabilities


def of_tensor(classifier: Classifier, values: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    classifier.signature.check_input(values)
    return classifier.scores_of_tensor(values)[0].probabilities


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_float_and_int8_models_take_what_the_trained_model_took(dtype: str) -> None:
    classifier = opened(network(dtype))
    assert (classifier.signature.input.dtype, classifier.signature.input.shape) == ("float32", (6, 9, 3))
    assert np.array_equal(of_tensor(classifier, NORMALIZED), of_picture(classifier))


def test_int8_quantization_is_that_of_the_preprocessing() -> None:
    classifier = opened(network("int8"))
    assert np.array_equal(
        quantized(NORMALIZED[None], classifier.input), Preprocessor.of(classifier.input, SETTINGS)(PICTURE)
    )
    assert quantized(np.array([1e9, -1e9], np.float32), classifier.input).tolist() == [127, -128]


def test_uint8_model_takes_pixels() -> None:
    classifier = opened(DIGITS, ModelSettings(labels=DIGIT_LABELS))
    photo = photo_of_3()
    pixels = Preprocessor.of(classifier.input, ModelSettings())(photo)[0]
    assert pixels.dtype == classifier.signature.input.dtype == "uint8"
    assert np.array_equal(of_tensor(classifier, pixels), classifier.scores(photo)[0].probabilities)


@pytest.mark.parametrize(
    ("shape", "instance"),
    [((1, 6, 9, 3), (6, 9, 3)), ((1, 3, 6, 9), (3, 6, 9)), ((6, 9, 3), (6, 9, 3)), ((1, 18, 9), (18, 9))],
)
def test_instance_has_the_shape_of_the_input_without_its_batch(
    shape: tuple[int, ...], instance: tuple[int, ...]
) -> None:
    classifier = opened(network(shape=shape))
    assert classifier.signature.input.shape == instance
    assert of_tensor(classifier, np.zeros(instance, np.float32)).shape == (3,)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros((9, 6, 3), np.float32), "The tensor is 9 x 6 x 3; the model takes 6 x 9 x 3."),
        (np.zeros((1, 6, 9, 3), np.float32), "The tensor is 1 x 6 x 9 x 3; the model takes 6 x 9 x 3."),
        (np.zeros((), np.float32), "The tensor is a single value; the model takes 6 x 9 x 3."),
        (np.zeros((6, 9, 3), np.uint8), "The tensor is uint8; the model takes float32."),
        (np.full((6, 9, 3), np.nan, np.float32), "The tensor contains NaN or infinity. Send finite values."),
        (
            np.full((6, 9, 3), 3e38, np.float32),
            "The model returned NaN or infinity for this tensor. Normalize its values as in the model's training.",
        ),
    ],
)
def test_tensor_that_the_model_cannot_take_is_refused(values: Any, sentence: str) -> None:
    with pytest.raises(TensorError) as error:
        of_tensor(opened(network()), values)
    assert str(error.value) == sentence


def test_outputs_are_named_by_the_signature_and_hold_what_the_model_returned() -> None:
    classifier = opened(network(ends="logits"))
    of_tensor(classifier, NORMALIZED)
    raw = classifier.outputs()["scores"]
    assert classifier.signature.has_logits
    assert raw.shape == (3,)
    assert raw.dtype == np.float32
    assert np.allclose(np.exp(raw) / np.exp(raw).sum(), of_picture(classifier))
    assert not opened(network()).signature.has_logits


def test_every_output_is_served_with_the_scores_first() -> None:
    model = TinyModel(5)
    logits = model.dense(model.reshaped(model.image(1, 6, 9, 3), 1, 162), 3, spread=0.1)
    features = model.reshaped(logits, 1, 1, 3)
    content = model.finish(features, model.softmax(logits), names=("features", "scores"))
    classifier = opened(content, ModelSettings(("a", "b", "c"), (0.0,), (1.0,), output="scores"))
    of_tensor(classifier, NORMALIZED)
    assert [(each.name, each.shape) for each in classifier.signature.outputs] == [
        ("scores", (3,)),
        ("features", (1, 3)),
    ]
    outputs = classifier.outputs()
    assert np.allclose(outputs["scores"].sum(), 1)
    assert {name: values.shape for name, values in outputs.items()} == {"scores": (3,), "features": (1, 3)}

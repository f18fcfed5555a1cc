"""Trained models with other inputs and outputs than a batch of color images and one score per label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import pytest
from conversions import (
    EXACT,
    QUANTIZED,
    QUIET,
    converted,
    finished_classifier,
    names,
    scores,
    source_classifier,
    untracked,
    write_labels,
)

from agent.errors import ModelError, SignatureError
from agent.image import Image
from agent.model_file.metadata import read_model_file
from converter.errors import UsageError
from converter.evaluation.comparison import compare
from converter.inspection import inspect_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]

tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings(*QUIET)]

HEIGHT, WIDTH = 20, 28
FOUR = ("a", "b", "c", "d")
RANDOM = np.random.default_rng(3)
PICTURES = np.clip(RANDOM.integers(0, 256, (8, 1, 1, 3)) + RANDOM.normal(0, 25, (8, HEIGHT, WIDTH, 3)), 0, 255).astype(
    np.uint8
)
GRAY = np.repeat(PICTURES[..., :1], 3, axis=3)  # the same in every channel, so the agent's gray is exact


class Network(tf.Module):  # type: ignore[misc, name-defined]
    """Random weights: images x height x width x channels in 0..1 to `count` logits."""

    def __init__(self, channels: int, count: int) -> None:
        random = np.random.default_rng(channels + count)
        self.kernel = tf.Variable(random.normal(0, 1, (3, 3, channels, 8)).astype(np.float32))
        self.weights = tf.Variable(random.normal(0, 1, (8, count)).astype(np.float32))

    def __call__(self, images: Any) -> Any:
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, self.kernel, 2, "SAME")), (1, 2)) @ self.weights


def saved(network: Network, call: Callable[[Any], Any], shape: tuple[int | None, ...], path: Path) -> Path:
    network.serve = tf.function(call, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    tf.saved_model.save(network, str(path), signatures=network.serve)
    return path


def images_of(pixels: Any) -> list[Image]:
    return [Image(each) for each in pixels]


def softmax(logits: Any) -> Floats:
    return np.asarray(tf.nn.softmax(logits))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels.txt", FOUR)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For calibration: the pictures of the tests, in color and in gray."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate((*PICTURES, *GRAY)):
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels[:, :, ::-1])
    return folder


def of_batch(images: Any) -> Any:
    """Keeps the batch as a constant, as Keras does in a Flatten of a fixed batch."""
    return tf.reshape(images, (8, HEIGHT * WIDTH * 3))


@dataclass(frozen=True)
class Taking:
    """How a network takes its images: the shape, and the step from there to images x height x width x channels."""

    shape: tuple[int | None, ...]
    to_images: Callable[[Any], Any]
    channels: int = 3

    @property
    def has_batch(self) -> bool:
        return len(self.shape) == 4 or (self.shape[1:] == (HEIGHT, WIDTH) and self.channels == 1)


GRAY_BATCH = Taking((None, HEIGHT, WIDTH), lambda taken: taken[..., None], 1)
RESHAPED_BATCH = Taking((8, HEIGHT, WIDTH, 3), lambda taken: tf.reshape(of_batch(taken), (8, HEIGHT, WIDTH, 3)))
CHANNELS_FIRST = Taking((None, 3, HEIGHT, WIDTH), lambda taken: tf.transpose(taken, (0, 2, 3, 1)))


@pytest.mark.parametrize(
    ("scheme", "taking"),
    [
        ("none", GRAY_BATCH),
        ("none", Taking((1, HEIGHT, WIDTH), lambda taken: taken[..., None], 1)),
        ("none", Taking((4, HEIGHT, WIDTH), lambda taken: taken[..., None], 1)),
        ("none", Taking((HEIGHT, WIDTH, 3), lambda taken: taken[None])),
        ("none", Taking((HEIGHT, WIDTH, 1), lambda taken: taken[None], 1)),
        ("none", Taking((3, HEIGHT, WIDTH), lambda taken: tf.transpose(taken, (1, 2, 0))[None])),
        ("none", CHANNELS_FIRST),
        ("none", Taking((8, HEIGHT, WIDTH, 3), lambda taken: taken)),
        ("none", RESHAPED_BATCH),
        ("int8", GRAY_BATCH),
        ("int8", CHANNELS_FIRST),
        ("int8", RESHAPED_BATCH),
    ],
)
def test_finished_file_takes_one_image_and_answers_like_the_network(
    scheme: Any, taking: Taking, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    network = Network(taking.channels, 4)

    def call(taken: Any) -> Any:
        logits = network(taking.to_images(taken))
        return {"scores": logits if taking.has_batch else logits[0]}

    source = saved(network, call, taking.shape, tmp_path / "source")
    converted(source, tmp_path / "m.tflite", scheme, labels=labels, calibration=pictures)
    content = (tmp_path / "m.tflite").read_bytes()
    assert read_model_file(content).inputs[0].shape == (1, HEIGHT, WIDTH, taking.channels)
    assert names(content) == ("image", "scores")
    pixels = PICTURES if taking.channels == 3 else GRAY
    expected = softmax(network(pixels[..., : taking.channels].astype(np.float32) / 255))
    answers = scores(finished_classifier(content), images_of(pixels))
    assert np.ptp(expected, axis=0).max() > 2 * QUANTIZED
    np.testing.assert_allclose(answers, expected, atol=EXACT if scheme == "none" else QUANTIZED)


def test_keras_file_with_a_fixed_batch_answers_like_the_network(labels: Path, tmp_path: Path) -> None:
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(3)
    image = layers.Input(batch_shape=(8, HEIGHT, WIDTH, 3), name="image")
    model = tf.keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(layers.MaxPool2D(4)(image))))
    model.save(tmp_path / "fixed.keras")
    converted(tmp_path / "fixed.keras", tmp_path / "m.tflite", "none", labels=labels)
    answers = scores(finished_classifier((tmp_path / "m.tflite").read_bytes()), images_of(PICTURES))
    np.testing.assert_allclose(answers, model(PICTURES.astype(np.float32) / 255), atol=EXACT)


@pytest.mark.parametrize("batch", [None, 8])
def test_one_number_for_each_image_is_taken_as_one_score(batch: int | None, tmp_path: Path) -> None:
    network = Network(3, 1)
    source = saved(network, lambda taken: network(taken)[:, 0], (batch, HEIGHT, WIDTH, 3), tmp_path / "source")
    labels = write_labels(tmp_path / "labels.txt", ("no", "yes"))
    converted(source, tmp_path / "m.tflite", "none", labels=labels)
    answers = scores(finished_classifier((tmp_path / "m.tflite").read_bytes()), images_of(PICTURES))
    p = np.asarray(tf.sigmoid(network(PICTURES.astype(np.float32) / 255)))[:, 0]
    np.testing.assert_allclose(answers, np.stack([1 - p, p], axis=1), atol=EXACT)


def test_scores_without_a_batch_axis_are_taken_for_a_batch_of_one(labels: Path, tmp_path: Path) -> None:
    network = Network(3, 4)
    source = saved(network, lambda taken: network(taken)[0], (1, HEIGHT, WIDTH, 3), tmp_path / "source")
    converted(source, tmp_path / "m.tflite", "none", labels=labels)
    answers = scores(finished_classifier((tmp_path / "m.tflite").read_bytes()), images_of(PICTURES))
    np.testing.assert_allclose(answers, softmax(network(PICTURES.astype(np.float32) / 255)), atol=EXACT)


def test_source_whose_output_has_an_open_batch_gives_the_scores_of_one_image(tmp_path: Path) -> None:
    """As with a recurrent layer, whose batch TensorFlow does not follow."""
    network = Network(3, 4)

    def call(taken: Any) -> Any:
        return tf.compat.v1.placeholder_with_default(network(taken), (None, 4))

    source = saved(network, call, (None, HEIGHT, WIDTH, 3), tmp_path / "source")
    answers = scores(source_classifier(source, FOUR, score="logits"), images_of(PICTURES))
    np.testing.assert_allclose(answers, softmax(network(PICTURES.astype(np.float32) / 255)), atol=EXACT)


def test_model_that_mixes_the_images_of_a_fixed_batch_is_refused(labels: Path, tmp_path: Path) -> None:
    network = Network(3, 4)

    def call(taken: Any) -> Any:
        return network(taken - tf.reduce_mean(taken, axis=0, keepdims=True))

    source = saved(network, call, (8, HEIGHT, WIDTH, 3), tmp_path / "source")
    with pytest.raises(ModelError, match=r"^The model takes only batches of 8 images, and its graph cannot be reduced"):
        converted(source, tmp_path / "m.tflite", "none", labels=labels)


@pytest.mark.parametrize("scheme", ["none", "int8"])
@pytest.mark.parametrize("end", [tf.sigmoid, tf.identity])
def test_one_sigmoid_or_logit_gives_1_minus_p_to_the_first_of_two_labels(
    end: Callable[[Any], Any], scheme: Any, color_images: Path, tmp_path: Path
) -> None:
    for name in ("blue", "red"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).symlink_to(color_images / name)
    network = Network(3, 1)
    source = saved(network, lambda taken: end(network(taken)), (None, HEIGHT, WIDTH, 3), tmp_path / "source")
    converted(source, tmp_path / "m.tflite", scheme, calibration=tmp_path / "images")
    classifier = finished_classifier((tmp_path / "m.tflite").read_bytes())
    assert classifier.labels == ("blue", "red")
    p = np.asarray(tf.sigmoid(network(PICTURES.astype(np.float32) / 255)))[:, 0]
    answers = scores(classifier, images_of(PICTURES))
    np.testing.assert_allclose(answers, np.stack([1 - p, p], axis=1), atol=EXACT if scheme == "none" else QUANTIZED)
    (evaluation, notes) = compare(
        tmp_path / "m.tflite", tmp_path / "images", source=source, signature=None, track=untracked
    )
    assert (evaluation.agreement, notes[1:]) == (1, ()) or scheme == "int8"


def test_one_sigmoid_gives_p_to_a_single_label(pictures: Path, tmp_path: Path) -> None:
    network = Network(3, 1)
    source = saved(network, lambda taken: tf.sigmoid(network(taken)), (None, HEIGHT, WIDTH, 3), tmp_path / "source")
    labels = write_labels(tmp_path / "labels.txt", ("owl",))
    converted(source, tmp_path / "m.tflite", "int8", labels=labels, calibration=pictures)
    p = np.asarray(tf.sigmoid(network(PICTURES.astype(np.float32) / 255)))
    classifier = finished_classifier((tmp_path / "m.tflite").read_bytes())
    np.testing.assert_allclose(scores(classifier, images_of(PICTURES)), p, atol=QUANTIZED)


def test_model_that_fails_at_run_time_is_refused(labels: Path, tmp_path: Path) -> None:
    network = Network(3, 4)

    def call(taken: Any) -> Any:
        tf.debugging.assert_less(tf.reduce_max(taken), 0.5, message="too bright")
        return network(taken)

    source = saved(network, call, (None, HEIGHT, WIDTH, 3), tmp_path / "source")
    with pytest.raises(ModelError, match=r"^TensorFlow cannot compute the model: .*too bright"):
        converted(source, tmp_path / "m.tflite", "none", labels=labels)


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_one_sigmoid_needs_one_or_two_labels(names: tuple[str, ...], tmp_path: Path) -> None:
    network = Network(3, 1)
    source = saved(network, lambda taken: tf.sigmoid(network(taken)), (None, HEIGHT, WIDTH, 3), tmp_path / "source")
    labels = write_labels(tmp_path / "labels.txt", names) if names else None
    with pytest.raises(UsageError) as raised:
        converted(source, tmp_path / "m.tflite", "none", labels=labels)
    assert "the model has one output p" in str(raised.value).replace("The", "the")


@pytest.fixture
def two_outputs(tmp_path: Path) -> tuple[Network, Network, Path]:
    kinds, colors = Network(3, 4), Network(3, 6)
    kinds.colors = colors
    source = saved(
        kinds,
        lambda taken: {"kinds": kinds(taken), "colors": colors(taken)},
        (None, HEIGHT, WIDTH, 3),
        tmp_path / "source",
    )
    return kinds, colors, source


def test_output_with_as_many_values_as_labels_is_chosen(
    two_outputs: tuple[Network, Network, Path], labels: Path, tmp_path: Path
) -> None:
    kinds, _, source = two_outputs
    converted(source, tmp_path / "m.tflite", "none", labels=labels)
    answers = scores(finished_classifier((tmp_path / "m.tflite").read_bytes()), images_of(PICTURES))
    np.testing.assert_allclose(answers, softmax(kinds(PICTURES.astype(np.float32) / 255)), atol=EXACT)


def test_named_output_is_chosen_and_compared_again(
    two_outputs: tuple[Network, Network, Path], color_images: Path, tmp_path: Path
) -> None:
    _, colors, source = two_outputs
    six = write_labels(tmp_path / "six.txt", "abcdef")
    converted(source, tmp_path / "m.tflite", "none", labels=six, output_name="colors")
    content = (tmp_path / "m.tflite").read_bytes()
    assert names(content) == ("image", "colors")
    answers = scores(finished_classifier(content), images_of(PICTURES))
    np.testing.assert_allclose(answers, softmax(colors(PICTURES.astype(np.float32) / 255)), atol=EXACT)
    flat = color_images / "red"
    evaluation, _ = compare(tmp_path / "m.tflite", flat, source=source, signature=None, track=untracked)
    assert evaluation.agreement == 1


def test_caller_must_choose_if_no_output_has_as_many_values_as_labels(
    two_outputs: tuple[Network, Network, Path], tmp_path: Path
) -> None:
    source = two_outputs[2]
    five = write_labels(tmp_path / "five.txt", "abcde")
    with pytest.raises(SignatureError, match=r"Choose one: --output colors or kinds\.$"):
        converted(source, tmp_path / "m.tflite", "none", labels=five)
    (signature,) = inspect_source(source, track=untracked)["signatures"]
    assert signature["image_classifier"]
    assert signature["reason"].endswith("Choose one: --output colors or kinds.")


def test_model_that_takes_encoded_images_is_refused_with_the_way_out(labels: Path, tmp_path: Path) -> None:
    network = Network(3, 4)

    def call(content: Any) -> Any:
        decoded = tf.map_fn(lambda each: tf.io.decode_jpeg(each, 3), content, fn_output_signature=tf.uint8)
        return network(tf.image.resize(decoded, (HEIGHT, WIDTH)))

    network.serve = tf.function(call, input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    tf.saved_model.save(network, str(tmp_path / "source"), signatures=network.serve)
    with pytest.raises(ModelError, match=r"^The model does not take pixels: .* export a signature that takes the dec"):
        converted(tmp_path / "source", tmp_path / "m.tflite", "none", labels=labels)

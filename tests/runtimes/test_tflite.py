from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agents.models_on_disk import (
    BARE_DIGITS,
    CONV_2D,
    DIGIT_LABELS,
    DIGITS,
    photo_of_3,
    with_free_height,
    with_input_shape,
    with_operator_version,
    with_output_shape,
    with_tensor_type,
)
from runtimes.pillow_resize import pillow_resize

from agent.errors import ModelError
from agent.image import Image, decode
from agent.model_file.labels import parse_labels
from agent.model_file.metadata import Tensor, read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from agent.classification import Category
    from agent.model_file.metadata import ModelFile

PUBLISHED = (
    "mlperf_vww_96_float",
    "mlperf_vww_96_int8",
    "mobilenet_v1_025_128_uint8",
    "mobilenet_v1_025_224_float",
    "mobilenet_v1_025_224_float_metadata",
    "mobilenet_v1_025_224_quant_broken_metadata",
    "mobilenet_v2_224_quant_nometadata",
    "mobilenet_v2_224_uint8",
)
# These two files do not state the range of their input.
RANGES = {
    "mlperf_vww_96_float": ModelSettings(mean=(0.0,), std=(255.0,)),
    "mobilenet_v1_025_224_float": ModelSettings(mean=(127.5,), std=(127.5,)),
}


def classifier(content: bytes = DIGITS, **settings: Any) -> TFLiteClassifier:
    model = read_model_file(content)
    return TFLiteClassifier(model, model.settings.overridden_by(ModelSettings(**settings)), threads=1)


def published(assets: Path, name: str, settings: ModelSettings | None = None) -> TFLiteClassifier:
    path = next((assets / "models" / name).glob("*.tflite"))
    model = read_model_file(path.read_bytes())
    wanted = model.settings.overridden_by(RANGES.get(name, ModelSettings()))
    if wanted.labels is None:
        labels = parse_labels(path.with_name("labels.txt").read_bytes(), where="labels.txt")
        wanted = wanted.overridden_by(ModelSettings(labels=labels))
    return TFLiteClassifier(model, wanted.overridden_by(settings or ModelSettings()), threads=1)


def best(opened: TFLiteClassifier, image: Image) -> Category:
    scores, _ = opened.scores(image)
    (category,) = scores.best(1)
    return category


def every(opened: TFLiteClassifier, image: Image) -> tuple[Category, ...]:
    scores, _ = opened.scores(image)
    return scores.best(len(opened.labels))


def answers(assets: Path, name: str) -> dict[str, Any]:
    """The expected best category of each photo with a clear result."""
    expected = json.loads((assets / "expected.json").read_text())
    top: dict[str, Any] = next(model["top1"] for path, model in expected.items() if path.startswith(f"{name}/"))
    return top


@pytest.mark.assets
def test_every_published_answer_is_checked(assets: Path) -> None:
    expected = json.loads((assets / "expected.json").read_text())
    assert sorted(path.split("/")[0] for path in expected) == sorted(PUBLISHED)


@pytest.mark.assets
@pytest.mark.parametrize("name", PUBLISHED)
def test_photos_get_the_published_labels(assets: Path, name: str) -> None:
    opened = published(assets, name)
    for photo, wanted in answers(assets, name).items():
        image = decode((assets / "photos" / photo).read_bytes(), smallest_side=opened.smallest_side)
        category = best(opened, image)
        assert (category.index, category.label) == (wanted["index"], wanted["label"]), photo
        if wanted["score"] <= 1:
            assert category.score == pytest.approx(wanted["score"], abs=0.09), photo
        else:
            assert 0.3 < category.score <= 1  # the published values are logits, ours are their softmax


@pytest.mark.assets
@pytest.mark.parametrize("name", PUBLISHED)
def test_scores_are_the_published_ones_for_the_same_pixels(assets: Path, name: str) -> None:
    opened = published(assets, name, ModelSettings(score="probability"))
    _, height, width, _ = opened.input.shape
    for photo, wanted in answers(assets, name).items():
        image = pillow_resize(decode((assets / "photos" / photo).read_bytes()), width, height)
        category = best(opened, image)
        assert category.index == wanted["index"], photo
        # Quantized kernels differ by up to 0.09; logits of tflite-runtime and LiteRT by up to three quantization steps.
        tolerance = 1e-3 if opened.input.dtype == "float32" else max(0.09, 3.1 * opened.output.scale)
        assert category.score == pytest.approx(wanted["score"], abs=tolerance), photo


@pytest.mark.assets
@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("refuse_detector_ssd", "not an image classifier: it has 4 outputs, so it is probably an object detector"),
        ("refuse_custom_op_edgetpu", "compiled for the Coral Edge TPU.*without _edgetpu"),
        ("refuse_flex_op", "needs TensorFlow's own operators .*built-in operators only"),
        ("refuse_non_image_lstm", "not an image classifier: its input is 1 x 28 x 28"),
    ],
)
def test_published_models_of_other_kinds_are_refused(assets: Path, folder: str, words: str) -> None:
    path = next((assets / "refuse" / folder).glob("*.tflite"))
    labels = tuple(str(n) for n in range(1001))
    with pytest.raises(ModelError, match=words):
        classifier(path.read_bytes(), labels=labels)


@pytest.mark.assets
def test_1000_labels_for_1001_outputs_are_refused_with_the_remedy(assets: Path) -> None:
    opened = published(assets, "mobilenet_v2_224_quant_nometadata")
    with pytest.raises(ModelError, match=r"1000 labels for 1001 outputs.*add `background` as its first line"):
        published(assets, "mobilenet_v2_224_quant_nometadata", ModelSettings(labels=opened.labels[1:]))


@pytest.mark.assets
def test_float_model_without_a_range_is_refused_with_the_usual_ranges(assets: Path) -> None:
    content = next((assets / "models" / "mlperf_vww_96_float").glob("*.tflite")).read_bytes()
    for settings in ({}, {"mean": (0.0,)}, {"std": (255.0,)}):
        with pytest.raises(
            ModelError, match=r"float32 and its range of values is unknown.*127\.5 and 127\.5.*0 and 255"
        ):
            classifier(content, labels=("a", "b"), **settings)
    assert classifier(content, labels=("a", "b"), mean=(0.0,), std=(255.0,)).smallest_side == 240


@pytest.mark.assets
def test_logits_become_probabilities_unless_score_is_set_to_probability(assets: Path) -> None:
    image = decode((assets / "photos" / "parrot.jpg").read_bytes())
    name = "mobilenet_v2_224_quant_nometadata"
    logits = every(published(assets, name, ModelSettings(score="probability")), image)
    probabilities = every(published(assets, name), image)
    assert logits[0].score > 10
    assert sum(category.score for category in probabilities) == pytest.approx(1, abs=1e-4)
    ratio = np.exp(logits[0].score - logits[1].score)
    assert probabilities[0].score / probabilities[1].score == pytest.approx(ratio, rel=1e-3)


@pytest.mark.assets
def test_softmax_is_applied_when_score_is_set_to_logits(assets: Path) -> None:
    """Needed for a model whose last operator does not show the kind of its scores."""
    image = decode((assets / "photos" / "parrot.jpg").read_bytes())
    flat = best(published(assets, "mobilenet_v2_224_uint8", ModelSettings(score="logits")), image)
    assert flat.index == 89
    assert flat.score < 0.01


@pytest.mark.assets
def test_hot_dog_is_recognized_only_with_the_right_color_order(assets: Path) -> None:
    image = decode((assets / "photos" / "hot_dog.jpg").read_bytes())
    assert best(published(assets, "mobilenet_v2_224_uint8"), image).label.startswith("hotdog")
    swapped = published(assets, "mobilenet_v2_224_uint8", ModelSettings(color="bgr"))
    assert not best(swapped, image).label.startswith("hotdog")


def test_gray_model_recognizes_a_digit() -> None:
    category = best(classifier(), photo_of_3())
    assert category.label == "3"
    assert category.score > 0.8


def test_best_returns_categories_in_descending_order_down_to_the_threshold() -> None:
    answer, spent = classifier().scores(photo_of_3())
    categories = answer.best(10, threshold=0)
    scores = [category.score for category in categories]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=0.03)
    assert min(spent) > 0
    assert answer.best(10, threshold=scores[0]) == categories[:1]
    assert answer.best(10, threshold=1.01) == ()
    assert answer.best(99, threshold=0) == categories


def test_lower_index_is_first_among_equals_for_any_count() -> None:
    scores, _ = classifier().scores(photo_of_3())
    everything = scores.best(10)
    indices = [category.index for category in everything]
    assert everything[-1].score == everything[-2].score  # quantized scores are often equal
    for count in range(1, 10):
        assert [category.index for category in scores.best(count)] == indices[:count]


def test_warm_up_does_not_change_the_scores() -> None:
    cold, warm = classifier(), classifier()
    warm.warm_up()
    assert best(cold, photo_of_3()) == best(warm, photo_of_3())


def test_scores_do_not_change_when_the_model_runs_again() -> None:
    opened = classifier()
    scores, _ = opened.scores(photo_of_3())
    before = scores.probabilities.tolist()
    opened.scores(Image(np.zeros((8, 8, 3), np.uint8)))
    assert scores.probabilities.tolist() == before


def test_inconsistent_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"refuses the model: .*failed to prepare.* Convert it again"):
        classifier(with_tensor_type(2, 0))  # a float32 output after an operator that quantizes


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_runtime_error_during_invoke_is_a_model_error(error: type[Exception]) -> None:
    class Failing:
        def set_tensor(self, _index: int, _value: object) -> None:
            raise error("node 7 failed to invoke.")

    opened = classifier()
    opened.warm_up()
    opened._interpreter = Failing()  # type: ignore[assignment]  # only set_tensor() is called
    with pytest.raises(ModelError, match="node 7 failed to invoke"):
        opened.warm_up()
    with pytest.raises(ModelError, match="node 7 failed to invoke"):
        opened.scores(photo_of_3())


def test_input_too_large_for_the_memory_is_refused() -> None:
    opened = classifier()
    for side in (1 << 22, 1 << 31):  # NumPy raises different errors for too little memory and an impossible size
        opened.input = dataclasses.replace(opened.input, shape=(1, side, side, 3))
        with pytest.raises(ModelError, match=r"more memory than is free|refuses the model"):
            opened.warm_up()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_operator_version(CONV_2D, 99), "CONV_2D version 99 is newer than this runtime"),
        (with_free_height(), "has no fixed input size.*--input-size HxW"),
        (with_input_shape([1, 0, 32, 1]), "has no fixed input size"),
        (with_input_shape([1, 32, 32, 4]), "its input has 4 channels, not 3"),
        (
            with_input_shape([1, 1, 32, 1]),
            "not an image classifier: its input is 1 x 1 x 32 x 1, one pixel wide or high",
        ),
        (with_input_shape([1, 32, 1, 1]), "one pixel wide or high"),
        (with_output_shape([5, 2]), "its output is 5 x 2, a map or a list of points"),
        (with_output_shape([1, 1]), "one output p, as a sigmoid gives it, and there are 10 labels for it"),
        (with_tensor_type(1, 7), "The input is int16. Convert the model with a uint8, int8 or float32 input"),
        (with_tensor_type(1, 5), "not an image classifier: its input is text"),
        (with_tensor_type(1, 99), "The input is an unknown type"),
        (with_tensor_type(2, 2), "The output is int32 and has no single scale"),
        (BARE_DIGITS, r"has no labels for its 10 outputs.*the extension \.txt"),
    ],
)
def test_models_that_cannot_be_served_are_refused_with_the_cause(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        classifier(content)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": DIGIT_LABELS[1:]}, "There are 9 labels for 10 outputs"),
        ({"labels": (*DIGIT_LABELS, "x")}, "There are 11 labels for 10 outputs"),
        ({"labels": ()}, "has no labels"),
        ({"mean": (1, 2, 3)}, "mean or std has three values but the input has 1 channel"),
        ({"std": (1, 2, 3)}, "mean or std has three values but the input has 1 channel"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        classifier(DIGITS, **settings)


def test_color_setting_is_ignored_for_a_gray_model() -> None:
    assert best(classifier(color="bgr"), photo_of_3()).label == "3"


COLOR = Tensor("image", (1, 32, 32, 3), "uint8", 1 / 255)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"inputs": (COLOR, COLOR)}, {}, "it has 2 inputs instead of one image"),
        ({"inputs": ()}, {}, "it has 0 inputs"),
        ({"outputs": (COLOR, COLOR)}, {}, "it has 2 outputs, none of them one score per label"),
        ({"outputs": (Tensor("o", (), "float32"),)}, {}, "its output is of unknown shape"),
        ({"outputs": (Tensor("o", (1, 10), "int8"),)}, {}, "The output is int8 and has no single scale"),
        ({"inputs": (Tensor("i", (1, 32, 32, 3), "int8"),)}, {}, "The int8 input has no scale"),
        ({"inputs": (COLOR,)}, {"color": "gray"}, "color: gray but the input has 3 channels. Set color to rgb or bgr"),
    ],
)
def test_files_of_other_kinds_of_models_are_refused(
    changes: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    model: ModelFile = dataclasses.replace(read_model_file(DIGITS), **changes)
    with pytest.raises(ModelError, match=words):
        TFLiteClassifier(model, model.settings.overridden_by(ModelSettings(**settings)), threads=1)


class OtherSizes(TFLiteClassifier):
    """Simulates a graph that computes the shape of its output at run time."""

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return np.resize(super()._invoke(tensor), 7)


def test_scores_are_refused_when_their_number_differs_from_the_labels() -> None:
    file = read_model_file(DIGITS)
    with pytest.raises(ModelError, match="returned 7 scores for 10 labels"):
        OtherSizes(file, file.settings, threads=1).scores(photo_of_3())

"""Ordinary models in unusual forms: other layouts, a larger batch, one sigmoid, several outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agents.tiny_models import LSTM, RESHAPE, TinyModel

from agent.errors import ModelError
from agent.image import Image, decode
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings, read_sidecars
from agent.runtimes.runtime import open_classifiers

if TYPE_CHECKING:
    from pathlib import Path

    from agent.runtimes.classifier import Classifier

PICTURE = Image(np.random.default_rng(7).integers(0, 256, (6, 9, 3), np.uint8))


def opened(content: bytes, **settings: Any) -> Classifier:
    file = read_model_file(content)
    given = ModelSettings(**{"labels": ("a", "b", "c"), "mean": (0.0,), "std": (255.0,), **settings})
    (classifier,) = open_classifiers(file, file.settings.overridden_by(given), workers=1, threads=1)
    return classifier


def answer(classifier: Classifier) -> dict[str, float]:
    scores, _ = classifier.scores(PICTURE)
    return {category.label: category.score for category in scores.best(9)}


def flattened(shape: tuple[int, ...], to_rows: tuple[int, ...], *, rows: int = 1) -> bytes:
    """Three scores that depend on every value of the input; `to_rows` transposes it to height, width, channels."""
    model = TinyModel(5)
    image = model.image(*shape)
    ordered = model.transposed(image, to_rows) if to_rows else image
    values = int(np.prod(shape)) // rows
    return model.finish(model.softmax(model.dense(model.reshaped(ordered, rows, values), 3, spread=0.1)))


COLOR = answer(opened(flattened((1, 6, 9, 3), ())))
GRAY = answer(opened(flattened((1, 6, 9, 1), ())))


@pytest.mark.parametrize(
    ("shape", "to_rows", "expected"),
    [
        ((1, 3, 6, 9), (0, 2, 3, 1), COLOR),
        ((3, 6, 9), (1, 2, 0), COLOR),
        ((6, 9, 3), (), COLOR),
        ((1, 1, 6, 9), (0, 2, 3, 1), GRAY),
        ((1, 6, 9), (), GRAY),
        ((6, 9, 1), (), GRAY),
    ],
)
def test_model_of_another_layout_gives_the_same_scores(
    shape: tuple[int, ...], to_rows: tuple[int, ...], expected: dict[str, float]
) -> None:
    assert answer(opened(flattened(shape, to_rows))) == pytest.approx(expected, abs=1e-5)


def test_mean_per_channel_reaches_the_channels_of_a_transposed_input() -> None:
    settings = {"mean": (10.0, 120.0, 250.0), "std": (50.0, 60.0, 70.0)}
    first, last = flattened((1, 3, 6, 9), (0, 2, 3, 1)), flattened((1, 6, 9, 3), ())
    assert answer(opened(first, **settings)) == pytest.approx(answer(opened(last, **settings)), abs=1e-5)


def pooled(batch: int) -> bytes:
    model = TinyModel(5)
    features = model.pooled(model.image(batch, 6, 9, 3), (1, 2), (batch, 3))
    return model.finish(model.softmax(model.dense(features, 3)))


def test_batch_is_reduced_to_one_image() -> None:
    classifier = opened(pooled(8))
    assert classifier.input.shape == (1, 6, 9, 3)
    assert answer(classifier) == pytest.approx(answer(opened(pooled(1))), abs=1e-6)
    classifier.warm_up()


def test_batch_that_is_fixed_inside_the_graph_is_refused() -> None:
    model = TinyModel(5)
    image = model.image(8, 6, 9, 3)
    content = model.finish(model.softmax(model.dense(model.reshaped(image, 8, 162), 3)))
    with pytest.raises(ModelError, match=r"takes a batch of 8 images, and the runtime cannot reduce it to 1.*Export"):
        opened(content)


def test_batch_that_comes_back_in_the_output_is_refused() -> None:
    """The constant has eight rows, so the output keeps them."""
    model = TinyModel(5)
    features = model.pooled(model.image(8, 6, 9, 3), (1, 2), (8, 3))
    content = model.finish(model.added(model.dense(features, 3), model.constant(np.ones((8, 3)))))
    with pytest.raises(ModelError, match="batch of 8 images"):
        opened(content)


def test_labels_counted_for_the_whole_batch_are_explained() -> None:
    with pytest.raises(ModelError, match="24 labels for 3 outputs for each image of its batch of 8"):
        opened(pooled(8), labels=tuple(map(str, range(24))))


def one_value(end: str, form: str = "float") -> bytes:
    model = TinyModel(11)
    value = model.dense(model.pooled(model.image(1, 6, 9, 3), (1, 2), (1, 3)), 1)
    if end == "sigmoid":
        value = model.sigmoid(value)
    if form in ("int8", "uint8"):
        scale, zero_point = (1 / 256, -128 if form == "int8" else 0) if end == "sigmoid" else (0.125, 0)
        value = model.quantized(value, form, scale, zero_point)
    return model.finish(model.reshaped(value) if form == "scalar" else value)


def test_scores_have_the_models_own_threshold_for_any_number_of_outputs() -> None:
    for content, labels in (
        (flattened((1, 6, 9, 3), ()), ("a", "b", "c")),
        (one_value("sigmoid", "float"), ("a", "b")),
    ):
        scores, _ = opened(content, labels=labels, unknown_below=0.62).scores(PICTURE)
        assert scores.threshold(None) == 0.62


@pytest.mark.parametrize("form", ["float", "int8", "uint8", "scalar"])
def test_one_sigmoid_answers_with_one_or_two_labels(form: str) -> None:
    classifier = opened(one_value("sigmoid", form), labels=("cat", "dog"))
    (p,) = classifier.values(PICTURE)
    assert 0.001 < p < 0.999
    assert answer(classifier) == pytest.approx({"cat": 1 - p, "dog": p}, abs=1e-6)
    assert answer(opened(one_value("sigmoid", form), labels=("dog",))) == pytest.approx({"dog": p}, abs=1e-6)
    scores, _ = classifier.scores(PICTURE)
    assert scores.best(1)[0].label == ("dog" if p > 0.5 else "cat")
    assert len(scores.best(2, threshold=max(p, 1 - p) - 1e-6)) == 1


@pytest.mark.parametrize("form", ["float", "int8"])
def test_one_logit_becomes_a_probability(form: str) -> None:
    classifier = opened(one_value("logit", form), labels=("cat", "dog"))
    (z,) = classifier.values(PICTURE)
    assert classifier.score == "logits"
    assert answer(classifier)["dog"] == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-6)


def test_extreme_logit_does_not_overflow() -> None:
    model = TinyModel(11)
    value = model.dense(model.pooled(model.image(1, 6, 9, 3), (1, 2), (1, 3)), 1)
    classifier = opened(model.finish(model.scaled(value, 1e30)), labels=("cat", "dog"))
    assert sorted(answer(classifier).values()) == pytest.approx([0, 1])


@pytest.mark.parametrize("labels", [None, (), ("a", "b", "c")])
def test_one_sigmoid_with_another_number_of_labels_asks_for_one_or_two(labels: tuple[str, ...] | None) -> None:
    with pytest.raises(
        ModelError, match=r"one output p.*the first gets 1 - p, the second p. Or put one label"
    ) as refusal:
        opened(one_value("sigmoid"), labels=labels)
    assert "not an image classifier" not in str(refusal.value)


def outputs(*counts: int) -> bytes:
    """One softmax per count; named head0, head1 and so on in the signature."""
    model = TinyModel(13)
    features = model.pooled(model.image(1, 6, 9, 3), (1, 2), (1, 3))
    heads = [model.softmax(model.dense(features, count)) for count in counts]
    return model.finish(*heads, names=[f"head{number}" for number in range(len(heads))])


@pytest.mark.parametrize(("counts", "chosen"), [((16, 3), 1), ((3, 16), 0), ((3, 7, 16), 0), ((7, 8, 9, 3), 3)])
def test_output_with_as_many_values_as_labels_is_chosen(counts: tuple[int, ...], chosen: int) -> None:
    classifier = opened(outputs(*counts))
    assert classifier.output_index == chosen
    assert sum(answer(classifier).values()) == pytest.approx(1, abs=1e-5)


def test_output_in_the_settings_is_chosen_by_either_name() -> None:
    content = outputs(3, 3)
    tensor = read_model_file(content).outputs[1].name
    assert opened(content, output="head1").output_index == 1
    assert opened(content, output=tensor).output_index == 1
    assert answer(opened(content, output="head0")) != answer(opened(content, output="head1"))


def test_unknown_output_is_refused_with_the_names() -> None:
    with pytest.raises(ModelError, match=r"no output 'scores'. Its outputs: head0 \(1 x 3\), head1 \(1 x 16\)"):
        opened(outputs(3, 16), output="scores")


@pytest.mark.parametrize(
    ("counts", "labels", "words"),
    [
        ((3, 3), ("a", "b", "c"), "for each of the 3 labels"),
        ((3, 16), ("a", "b"), "for each of the 2 labels"),
        ((3, 16), None, "there are no labels"),
        ((5, 6, 7), ("a", "b"), "The model has 3 outputs"),
    ],
)
def test_undecided_outputs_are_listed_with_the_remedy(
    counts: tuple[int, ...], labels: tuple[str, ...] | None, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as refusal:
        opened(outputs(*counts), labels=labels)
    assert f"head0 (1 x {counts[0]})" in str(refusal.value)
    assert "Put `output:`" in str(refusal.value)
    assert "not an image classifier" not in str(refusal.value)


def test_sigmoid_beside_an_embedding_serves_two_labels() -> None:
    model = TinyModel(13)
    features = model.pooled(model.image(1, 6, 9, 3), (1, 2), (1, 3))
    content = model.finish(model.dense(features, 16), model.sigmoid(model.dense(features, 1)))
    assert sum(answer(opened(content, labels=("cat", "dog"))).values()) == pytest.approx(1)


def test_scores_beside_a_map_are_found_without_labels_that_fit() -> None:
    model = TinyModel(13)
    image = model.image(1, 6, 9, 3)
    features = model.pooled(image, (1, 2), (1, 3))
    content = model.finish(model.scaled(image, 2.0), model.softmax(model.dense(features, 3)))
    assert opened(content).output_index == 1
    with pytest.raises(ModelError, match="There are 2 labels for 3 outputs"):
        opened(content, labels=("a", "b"))


def test_four_scores_with_three_axes_are_not_taken_for_a_box() -> None:
    model = TinyModel(13)
    features = model.pooled(model.image(1, 6, 9, 3), (1, 2), (1, 3))
    content = model.finish(model.dense(features, 16), model.reshaped(model.softmax(model.dense(features, 4)), 1, 1, 4))
    assert sum(answer(opened(content, labels=tuple("abcd"))).values()) == pytest.approx(1)


def test_boxes_with_scores_are_refused_as_an_object_detector() -> None:
    model = TinyModel(13)
    features = model.pooled(model.image(1, 6, 9, 3), (1, 2), (1, 3))
    boxes = model.reshaped(model.dense(features, 12), 1, 3, 4)
    heads = [model.dense(features, count) for count in (3, 3, 1)]
    with pytest.raises(ModelError, match="4 outputs, so it is probably an object detector"):
        opened(model.finish(boxes, *heads))


def test_batch_does_not_disturb_the_choice_of_the_output() -> None:
    model = TinyModel(5)
    features = model.pooled(model.image(8, 6, 9, 3), (1, 2), (8, 3))
    content = model.finish(model.dense(features, 16), model.softmax(model.dense(features, 3)))
    assert sum(answer(opened(content)).values()) == pytest.approx(1, abs=1e-5)


def test_model_that_reads_a_sequence_is_refused() -> None:
    model = TinyModel(5)
    image = model.image(1, 6, 9)
    content = model.finish(model.operator(LSTM, [image], (1, 3)))
    with pytest.raises(ModelError, match="not an image classifier: its input is 1 x 6 x 9, which the model reads as a"):
        opened(content)


@pytest.mark.reports
@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("binary_sigmoid", ("cat", "dog"), {"cat": 0.35, "dog": 0.65}),
        ("two_outputs", ("a", "b", "c"), {"c": 0.40, "b": 0.31, "a": 0.29}),
        ("batch8", ("a", "b", "c"), {"a": 0.485, "c": 0.36, "b": 0.155}),
        ("mnist_rank3", None, {"class6": 0.27, "class9": 0.22}),
    ],
)
def test_reported_model_is_served(
    reports: Path, assets: Path, name: str, labels: tuple[str, ...] | None, expected: dict[str, float]
) -> None:
    path = reports / f"{name}.tflite"
    file = read_model_file(path.read_bytes())
    settings = file.settings.overridden_by(read_sidecars(path)).overridden_by(ModelSettings(labels=labels))
    (classifier,) = open_classifiers(file, settings, workers=1, threads=1)
    scores, _ = classifier.scores(decode((assets / "photos" / "parrot.jpg").read_bytes()))
    found = {category.label: category.score for category in scores.best(len(expected))}
    assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.reports
def test_model_whose_weights_were_lost_is_refused(reports: Path) -> None:
    """Its variables are read but never set, so the runtime would compute with random memory."""
    content = (reports / "nchw.tflite").read_bytes()
    with pytest.raises(ModelError, match=r"The file has no weights.*Convert the model again"):
        opened(content)


@pytest.mark.parametrize("count", [1, 3])
def test_output_without_a_batch_axis_is_one_score_per_label(count: int) -> None:
    model = TinyModel(5)
    values = model.dense(model.reshaped(model.image(6, 9, 3), 1, 162), count, spread=0.1)
    scores = model.sigmoid(values) if count == 1 else model.softmax(values)
    labels = ("cat", "dog") if count == 1 else ("a", "b", "c")
    classifier = opened(model.finish(model.reshaped(scores, count)), labels=labels)
    assert sum(answer(classifier).values()) == pytest.approx(1, abs=1e-5)


def test_batch_of_one_sigmoid_without_a_second_axis_is_reduced() -> None:
    model = TinyModel(5)
    features = model.pooled(model.image(4, 6, 9, 3), (1, 2), (4, 3))
    scores = model.sigmoid(model.dense(features, 1))
    squeezed = model.operator(RESHAPE, [scores, model.constant([-1], np.int32)], (4,))
    assert sum(answer(opened(model.finish(squeezed), labels=("cat", "dog"))).values()) == pytest.approx(1)

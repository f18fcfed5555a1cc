"""Temperature: scores compared with a plain computation, for every kind of output and number type."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agents.tiny_models import TinyModel
from hypothesis import given, settings, strategies as st

from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.scores import Scores, scores_of_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.settings import Score
    from agent.runtimes.classifier import Classifier

PICTURE = Image(np.random.default_rng(7).integers(0, 256, (6, 9, 3), np.uint8))
TYPES = {"uint8": (1 / 256, 0), "int8": (1 / 256, -128), "int16": (1 / 32768, 0), "float32": (0.0, 0)}
TEMPERATURES = st.floats(0.05, 20)


def softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


@st.composite
def distributions(draw: st.DrawFn) -> tuple[np.ndarray[tuple[int], np.dtype[np.generic]], str]:
    """A softmax of any confidence in any number type, as raw values; quantized ones often contain zeros."""
    count, spread = draw(st.integers(2, 12)), draw(st.sampled_from([0.1, 1.0, 5.0, 30.0, 200.0]))
    drawn = draw(st.lists(st.floats(-1, 1), min_size=count, max_size=count))
    values = np.asarray(softmax([spread * each for each in drawn]), np.float32)
    dtype = draw(st.sampled_from(sorted(TYPES)))
    scale, zero_point = TYPES[dtype]
    if not scale:
        return values, dtype
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(dtype), dtype


def scores_of(raw: np.ndarray[tuple[int], np.dtype[np.generic]], dtype: str, **read: object) -> Scores:
    scale, zero_point = TYPES[dtype]
    labels = tuple(f"label {index}" for index in range(raw.size))
    return Scores(raw, labels, scale, zero_point, are_logits=False, step=scale, **read)  # type: ignore[arg-type]


@settings(max_examples=300)
@given(distributions(), TEMPERATURES)
def test_distribution_is_raised_to_the_power_of_one_over_the_temperature(
    case: tuple[np.ndarray[tuple[int], np.dtype[np.generic]], str], temperature: float
) -> None:
    raw, dtype = case
    scale, zero_point = TYPES[dtype]
    real = [(float(each) - zero_point) * scale if scale else float(each) for each in raw]
    least = (scale or float(np.finfo(np.float32).tiny)) / (2 * len(real))
    powers = [max(each, least) ** (1 / temperature) for each in real]
    expected = [power / math.fsum(powers) for power in powers]
    assert scores_of(raw, dtype, temperature=temperature).probabilities == pytest.approx(expected, abs=1e-6)


@settings(max_examples=300)
@given(distributions(), TEMPERATURES, st.sampled_from(["a distribution", "independent"]))
def test_temperature_keeps_the_order_of_the_labels(
    case: tuple[np.ndarray[tuple[int], np.dtype[np.generic]], str], temperature: float, kind: str
) -> None:
    raw, dtype = case
    are_independent = kind == "independent"
    plain = scores_of(raw, dtype).best(raw.size)
    tempered = scores_of(raw, dtype, temperature=temperature, are_independent=are_independent)
    best = tempered.best(raw.size)
    assert [category.index for category in best] == [category.index for category in plain]
    assert [category.score for category in best] == sorted((each.score for each in best), reverse=True)
    assert all(0 <= category.score <= 1 for category in best)
    if not are_independent:
        assert tempered.probabilities.sum() == pytest.approx(1, abs=1e-5)


@settings(max_examples=300)
@given(distributions(), TEMPERATURES, TEMPERATURES)
def test_higher_temperature_never_makes_the_best_score_higher(
    case: tuple[np.ndarray[tuple[int], np.dtype[np.generic]], str], one: float, other: float
) -> None:
    cold, hot = (scores_of(*case, temperature=each).best(1)[0].score for each in sorted((one, other)))
    assert hot <= cold + 1e-6


@given(st.lists(st.floats(-700, 700, width=32), min_size=2, max_size=9), TEMPERATURES)
def test_logits_are_divided_by_the_temperature(logits: list[float], temperature: float) -> None:
    raw = np.asarray(logits, np.float32)
    labels = tuple(map(str, range(raw.size)))
    scores = Scores(raw, labels, 0.0, 0, are_logits=True, temperature=temperature)
    expected = softmax([logit / temperature for logit in raw.tolist()])
    assert scores.probabilities == pytest.approx(expected, abs=1e-6)
    assert [each.index for each in scores.best(9)] == np.argsort(-raw, kind="stable").tolist()


@given(st.integers(0, 255), TEMPERATURES)
def test_independent_scores_are_tempered_alone(raw: int, temperature: float) -> None:
    pair = scores_of(np.array([raw, 40], np.uint8), "uint8", temperature=temperature, are_independent=True)
    p = min(max(raw / 256, 1 / 512), 1 - 1 / 512)
    expected = 1 / (1 + ((1 - p) / p) ** (1 / temperature))
    assert pair.probabilities[0] == pytest.approx(expected, rel=1e-5)
    assert pair.probabilities[1] == pytest.approx(1 / (1 + (216 / 40) ** (1 / temperature)), rel=1e-5)


@given(st.floats(-300, 300), TEMPERATURES)
def test_one_logit_is_divided_by_the_temperature(logit: float, temperature: float) -> None:
    raw = np.array([logit], np.float32)
    p = softmax([0, float(raw[0]) / temperature])[1]
    for labels, expected in ((("on",), [p]), (("off", "on"), [1 - p, p])):
        scores = scores_of_one(raw, labels, scale=0.0, zero_point=0, are_logits=True, temperature=temperature)
        assert scores.probabilities == pytest.approx(expected, abs=1e-6)


@given(st.floats(1e-6, 1 - 1e-6), TEMPERATURES)
def test_logit_of_one_sigmoid_is_divided_by_the_temperature(p: float, temperature: float) -> None:
    raw = np.array([p], np.float32)
    p = float(raw[0])
    expected = 1 / (1 + ((1 - p) / p) ** (1 / temperature))
    for labels, values in ((("on",), [expected]), (("off", "on"), [1 - expected, expected])):
        scores = scores_of_one(raw, labels, scale=0.0, zero_point=0, are_logits=False, temperature=temperature)
        assert scores.probabilities == pytest.approx(values, abs=1e-5)


def test_zeros_of_many_labels_weigh_no_more_than_those_of_few() -> None:
    for count in (2, 1000):
        raw = np.zeros(count, np.uint8)
        raw[0] = 255
        (best,) = scores_of(raw, "uint8", temperature=1.001).best(1)
        assert best.score == pytest.approx(1, abs=0.003)


def opened(content: bytes, **given: object) -> Classifier:
    file = read_model_file(content)
    own = file.settings.overridden_by(ModelSettings(("a", "b", "c"), (0.0,), (255.0,), **given))  # type: ignore[arg-type]
    (classifier,) = open_classifiers(file, own, workers=1, threads=1)
    return classifier


def model_ending_in(end: str, *, dtype: str | None = None) -> bytes:
    model = TinyModel(5)
    values = model.dense(model.reshaped(model.image(1, 6, 9, 3), 1, 162), 3, spread=0.1)
    if end in ("softmax", "percent"):
        values = model.softmax(values)
    if end == "sigmoid":
        values = model.sigmoid(values)
    if end == "percent":
        values = model.scaled(values, 100.0)
    if dtype is not None:
        values = model.quantized(values, dtype, 1 / 256, -128 if dtype == "int8" else 0)
    return model.finish(values)


def real_logits() -> list[float]:
    return [float(each) for each in opened(model_ending_in("logits")).values(PICTURE)]


@pytest.mark.parametrize("score", [None, "probability"])
@pytest.mark.parametrize(
    ("end", "dtype"),
    [("logits", None), ("softmax", None), ("softmax", "int8"), ("softmax", "uint8"), ("percent", None)],
)
def test_models_that_end_otherwise_answer_alike(end: str, dtype: str | None, score: Score | None) -> None:
    stated: Score | None = "percent" if score and end == "percent" else "logits" if score and end == "logits" else score
    classifier = opened(model_ending_in(end, dtype=dtype), temperature=3.0, score=stated)
    expected = softmax([logit / 3 for logit in real_logits()])
    answered = classifier.scores(PICTURE)[0].probabilities
    assert answered == pytest.approx(expected, abs=0.02 if dtype else 1e-5)


@pytest.mark.parametrize("score", [None, "probability"])
@pytest.mark.parametrize("dtype", [None, "int8", "uint8"])
def test_sigmoids_are_recognized_as_independent(dtype: str | None, score: Score | None) -> None:
    classifier = opened(model_ending_in("sigmoid", dtype=dtype), temperature=3.0, score=score)
    expected = [1 / (1 + math.exp(-logit / 3)) for logit in real_logits()]
    assert classifier.scores(PICTURE)[0].probabilities == pytest.approx(expected, abs=0.02 if dtype else 1e-5)


@pytest.mark.parametrize("temperature", [None, 1.0])
def test_temperature_of_1_changes_and_costs_nothing(temperature: float | None) -> None:
    classifier = opened(model_ending_in("softmax", dtype="uint8"), temperature=temperature, score="probability")
    assert classifier.seen is None  # nothing had to be probed
    scores, _ = classifier.scores(PICTURE)
    assert scores.temperature is None
    assert scores.probabilities.tolist() == classifier.values(PICTURE).tolist()


def test_raw_outputs_of_a_model_with_a_temperature_stay_raw() -> None:
    classifier = opened(model_ending_in("logits"), temperature=3.0)
    classifier.scores(PICTURE)
    (values,) = classifier.outputs().values()
    assert values.tolist() == real_logits()

"""Calibration error, temperature and unknown threshold: compared with plain computations and with known truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from agent.runtimes.temperature import log_odds, sigmoid, softmax
from converter.evaluation.calibration_error import reliability
from converter.evaluation.fitted_scores import FEWEST, fit_scores
from converter.evaluation.temperature import Outputs, fit_temperature, log_loss
from converter.evaluation.unknown import UnknownThreshold, find_threshold

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]
    Ints = npt.NDArray[np.int64]


def drawn(logits: Floats, random: np.random.Generator) -> Ints:
    """A truth for each image, drawn from the softmax of its logits: so these scores mean what they say."""
    return np.array([random.choice(logits.shape[1], p=row / row.sum()) for row in np.exp(logits)])


def calibrated(images: int, labels: int, seed: int = 1) -> tuple[Floats, Ints]:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (images, labels))
    return logits, drawn(logits, random)


def of_logits(logits: Floats) -> Outputs:
    return Outputs(softmax(logits), logits)


@pytest.mark.parametrize(("images", "labels", "spread"), [(400, 5, 1.0), (30, 2, 9.0), (7, 300, 0.1), (1, 3, 50.0)])
def test_calibration_error_follows_its_definition(images: int, labels: int, spread: float) -> None:
    random = np.random.default_rng(images)
    scores, truth = softmax(random.normal(0, spread, (images, labels))), random.integers(0, labels, images)
    total = 0.0
    for number in range(15):
        inside = [row for row in range(images) if number / 15 < max(map(float, scores[row])) <= (number + 1) / 15]
        if inside:
            right = sum(int(scores[row].argmax() == truth[row]) for row in inside) / len(inside)
            total += len(inside) / images * abs(right - sum(float(scores[row].max()) for row in inside) / len(inside))
    found = reliability(scores, truth)
    assert found.error == pytest.approx(total, abs=1e-9)
    assert found.images == images


def test_scores_of_exactly_0_and_1_are_in_the_outer_bins() -> None:
    found = reliability(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    assert [(each.low, each.high, each.images) for each in found.bins] == [(0, 1 / 15, 1), (14 / 15, 1, 1)]


@pytest.mark.parametrize("factor", [0.3, 1.0, 5.0, 12.0])
def test_fit_finds_the_temperature_that_the_logits_were_multiplied_by(factor: float) -> None:
    logits, truth = calibrated(4000, 6)
    assert fit_temperature(of_logits(factor * logits), truth) == pytest.approx(factor, rel=0.06)


def test_fit_finds_the_temperature_of_independent_scores() -> None:
    random = np.random.default_rng(2)
    odds = random.normal(0, 1.5, (6000, 4))
    truth = np.where(random.uniform(size=6000) < sigmoid(odds).max(axis=1), odds.argmax(axis=1), -1)
    outputs = Outputs(sigmoid(3 * odds), 3 * odds, are_independent=True)
    assert fit_temperature(outputs, truth) == pytest.approx(3, rel=0.06)


@pytest.mark.parametrize("labels", [2, 9])
def test_fit_is_the_lowest_point_of_the_log_loss(labels: int) -> None:
    random = np.random.default_rng(labels)
    outputs, truth = of_logits(random.normal(0, 3, (50, labels))), random.integers(0, labels, 50)
    every = np.exp(np.linspace(math.log(1 / 20), math.log(20), 4001))
    losses = [log_loss(outputs, truth, temperature) for temperature in every]
    assert fit_temperature(outputs, truth) == pytest.approx(every[int(np.argmin(losses))], rel=2e-3)
    plain = [-math.log(float(row[right])) for row, right in zip(softmax(outputs.logits, 3.0), truth, strict=True)]
    assert log_loss(outputs, truth, 3.0) == pytest.approx(sum(plain) / 50, rel=1e-4)


@pytest.mark.long
def test_fit_to_a_sample_of_very_many_scores_is_nearly_that_to_all() -> None:
    logits, truth = calibrated(9000, 500)
    assert fit_temperature(of_logits(2 * logits), truth) == pytest.approx(2, rel=0.05)


def test_overconfident_model_gets_a_temperature_and_half_the_error() -> None:
    logits, truth = calibrated(1000, 10)
    found = fit_scores(of_logits(5 * logits), truth)
    assert found.temperature == pytest.approx(5, rel=0.1)
    assert found.after is not None
    assert found.after.error < found.before.error / 2
    assert found.sentences[0].startswith(f"The temperature {found.temperature:g} changes the calibration error from 0.")
    assert found.settings == {"temperature": found.temperature, "unknown_below": found.unknown and found.unknown.below}


def test_reported_error_is_that_of_scores_fitted_to_other_images() -> None:
    logits, truth = calibrated(200, 5)
    found = fit_scores(of_logits(5 * logits), truth)
    numbers = np.arange(200) % 5
    scores = np.empty((200, 5), np.float32)
    for fold in range(5):
        rest = numbers != fold
        scores[~rest] = softmax(5 * logits[~rest], fit_temperature(of_logits(5 * logits[rest]), truth[rest]))
    assert found.after == reliability(scores, truth)
    assert found.temperature is not None
    assert found.after != reliability(softmax(5 * logits, found.temperature), truth)


@pytest.mark.parametrize(
    ("images", "seed", "factor", "objections"),
    [
        (300, 1, 1.1, ("would not lower it on other images",)),
        (300, 0, 1.0, ("would lower the error to 0.060 but make the right labels of other images less likely",)),
        (60, 0, 1.0, ("would not lower it on other images", "and would make the right labels of other images less")),
    ],
)
def test_calibrated_model_gets_no_temperature_and_learns_what_speaks_against_it(
    images: int, seed: int, factor: float, objections: tuple[str, ...]
) -> None:
    logits, truth = calibrated(images, 5, seed=seed)
    found = fit_scores(of_logits(factor * logits), truth)
    assert found.temperature is None
    assert list(found.settings) == ["unknown_below"]
    assert found.after is not None
    is_lower, sentence = found.after.error < found.before.error, found.sentences[0]
    assert "No temperature is stored:" in sentence
    assert ("would lower the error" in sentence) == is_lower
    assert all(objection in sentence for objection in objections)
    assert ("less likely" in sentence) == ("labels of other images" in objections[-1])


def test_model_that_is_always_right_gets_no_temperature() -> None:
    truth = np.arange(60) % 3
    found = fit_scores(of_logits(np.eye(3)[truth]), truth)
    assert found.temperature is None
    assert found.sentences[0].endswith("No temperature is stored: every answer is right.")


def test_few_images_give_no_settings_and_say_how_few() -> None:
    logits, truth = calibrated(FEWEST - 1, 3)
    found = fit_scores(of_logits(5 * logits), truth)
    assert found.settings == {}
    assert found.sentences[0].endswith(
        "29 labeled images are too few to fit a temperature or a threshold. Give at least 30."
    )


def test_independent_scores_are_fitted_as_such() -> None:
    random = np.random.default_rng(6)
    odds = random.normal(0, 1, (500, 3))
    truth = np.where(random.uniform(size=500) < sigmoid(odds).max(axis=1), odds.argmax(axis=1), -1)
    scores = sigmoid(4 * odds)
    found = fit_scores(Outputs(scores, log_odds(scores, 0), are_independent=True), truth)
    assert found.temperature == pytest.approx(4, rel=0.2)


SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60)


@settings(max_examples=300)
@given(SCORES, st.none() | SCORES)
def test_threshold_rejects_at_most_a_tenth_of_the_known(known: list[float], unknown: list[float] | None) -> None:
    below = find_threshold(np.array(known), None if unknown is None else np.array(unknown))
    assert sum(score < below for score in known) <= len(known) / 10


@settings(max_examples=300)
@given(SCORES, SCORES)
def test_no_allowed_threshold_rejects_more_unknown_or_as_many_and_less_known(
    known: list[float], unknown: list[float]
) -> None:
    below = find_threshold(np.array(known), np.array(unknown))
    reached = sum(score < below for score in unknown), -sum(score < below for score in known)
    allowed = max(0, math.floor((len(known) + 1) / 10) - 1)
    for other in {0.0, *known, *unknown}:
        lost = sum(score < other for score in known)
        if lost <= allowed:
            assert (sum(score < other for score in unknown), -lost) <= reached


@pytest.mark.parametrize("images", [9, 40, 170, 1000])
def test_fresh_known_images_are_rejected_a_tenth_of_the_time_at_most(images: int) -> None:
    random = np.random.default_rng(3)
    shares = [find_threshold(random.beta(8, 1, images)) ** 8 for _ in range(500)]  # the distribution function
    assert 0.08 < np.mean(shares) < 0.1


def test_reported_shares_are_those_of_thresholds_of_other_images() -> None:
    logits, truth = calibrated(300, 5)
    others = of_logits(np.random.default_rng(9).normal(0, 0.5, (101, 5)))
    found = fit_scores(of_logits(3 * logits), truth, others).unknown
    assert found is not None
    assert found.others == 101
    assert 0 < found.known_rejected <= 0.12
    assert found.unknown_rejected is not None
    assert found.unknown_rejected > 0.5
    assert str(found).startswith(f"unknown_below {found.below:g} rejects ")
    assert str(found).endswith(" % of 101 images of other things")


def test_threshold_that_rejects_no_other_thing_is_not_stored() -> None:
    logits, truth = calibrated(100, 4)
    certain = of_logits(100.0 * np.eye(4)[np.zeros(20, int)])
    found = fit_scores(of_logits(logits), truth, certain)
    assert found.unknown is None
    assert "unknown_below" not in found.settings
    assert found.sentences[1] == "No threshold rejects the images of other things."


def test_default_threshold_is_not_said_to_be_in_the_file() -> None:
    text = "The file has no unknown_below; the default 0.5 rejects 10.0 % of the known images"
    assert str(UnknownThreshold(0.5, 0.1, is_default=True)) == text

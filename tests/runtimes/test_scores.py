from __future__ import annotations

import numpy as np
import pytest

from agent.runtimes.scores import Scores

LABELS = ("a", "b", "c", "d")


def int8_scores(*raw: int) -> Scores:
    return Scores(np.asarray(raw, np.int8), LABELS, scale=0.5, zero_point=-128, are_logits=False)


def test_scores_dequantize_by_scale_and_zero_point() -> None:
    values = int8_scores(-128, -127, 0, 127).probabilities
    assert values.dtype == np.float32
    assert values.tolist() == [0, 0.5, 64, 127.5]


def test_best_returns_the_values_of_the_whole_vector() -> None:
    scores = int8_scores(-128, 127, -128, 0)
    categories = scores.best(4)
    assert [category.index for category in categories] == [1, 3, 0, 2]
    assert [category.label for category in categories] == ["b", "d", "a", "c"]
    assert [category.score for category in categories] == scores.probabilities[[1, 3, 0, 2]].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.float32])
def test_best_puts_the_lower_index_first_among_equals(dtype: type[np.generic]) -> None:
    scores = Scores(np.asarray([7, 9, 7, 9]).astype(dtype), LABELS, scale=0.0, zero_point=0, are_logits=False)
    assert [category.index for category in scores.best(3)] == [1, 3, 0]


def test_best_returns_the_softmax_over_all_labels_for_logits() -> None:
    scores = Scores(np.log(np.asarray([1, 2, 3, 4], np.float32)), LABELS, scale=0.0, zero_point=0, are_logits=True)
    assert scores.probabilities == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [category.score for category in scores.best(2)] == pytest.approx([0.4, 0.3])


@pytest.mark.parametrize(
    ("asked", "own", "used"), [(0.0, 0.6, 0.0), (None, 0.6, 0.6), (None, 0.0, 0.0), (None, None, 0.5)]
)
def test_threshold_is_the_models_own_only_if_none_is_asked(asked: float | None, own: float | None, used: float) -> None:
    scores = Scores(np.zeros(4, np.float32), LABELS, 0.0, 0, are_logits=False, unknown_below=own)
    assert scores.threshold(asked) == used


def test_best_omits_scores_below_the_threshold() -> None:
    scores = int8_scores(-128, -127, -126, -125)
    assert [category.index for category in scores.best(4, threshold=1.0)] == [3, 2]
    assert scores.best(4, threshold=2.0) == ()

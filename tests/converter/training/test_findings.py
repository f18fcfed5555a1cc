"""Findings: the sentences of the report are about classes that more photos can help."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from converter.report.findings import in_short
from converter.training.assessment import Assessment
from converter.training.result import Result

if TYPE_CHECKING:
    from converter.training.training import Training


def _training(recalls: list[list[float]], counts: tuple[int, ...]) -> Training:
    """One of the classes a, b and c, of which the last has no right answer."""
    truth = np.repeat(np.arange(3), counts)
    scores = np.eye(3, dtype=np.float32)[np.where(truth == 2, 0, truth)]
    each = np.array(recalls, np.float32)
    assessment = Assessment(scores=scores, fold_of=truth % 2, curve=each.mean(axis=1), recalls=each)
    dataset = SimpleNamespace(labels=("a", "b", "c"), truth=truth)
    result = Result(np.arange(len(truth)), truth, scores)
    return cast("Training", SimpleNamespace(dataset=dataset, assessment=assessment, result=result, is_tuned=False))


@pytest.mark.parametrize(
    ("half", "said"),
    [
        ([0.5, 0.8, 0.0], "More photos of b would help most: with half of the photos, 80.0 % of this class were"),
        ([0.5, 0.9, 0.0], "More photos of the same kind would help little"),
    ],
)
def test_a_class_that_is_recognized_well_needs_no_more_photos(half: list[float], said: str) -> None:
    sentences = in_short(_training([[0, 0, 0], half, [1.0, 0.9, 0.0]], (40, 40, 40)))
    (sentence,) = (each for each in sentences if each.startswith("More photos"))
    assert sentence.startswith(said)
    assert "After that" not in sentence


@pytest.mark.parametrize("half", [[1.0, 1.0, 0.0], [1.0, 0.5, 0.0]])
def test_classes_with_few_photos_come_first(half: list[float]) -> None:
    """Half of a handful measures nothing."""
    _, hardest, mistake, advice, *others = in_short(_training([[0, 0, 0], half, [1.0, 0.9, 0.0]], (40, 40, 2)))
    assert hardest == "The hardest class is c: 0.0 % of its 2 photos are recognized."
    assert mistake.startswith("The most frequent mistake: c")
    assert advice == "Add photos to the classes that have few and are often not recognized: c (2 photos)."
    assert any("More photos of b would help too" in each for each in others) == (half[1] == 0.5)
    assert not any("help little" in each for each in others)

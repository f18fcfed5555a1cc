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
    dataset = SimpleNamespace(labels=("a", "b", "c"))
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


@pytest.mark.parametrize(("count", "is_said"), [(2, True), (20, False)])
def test_the_hardest_class_needs_photos_first_if_it_has_few(count: int, is_said: bool) -> None:  # noqa: FBT001
    hardest = in_short(_training([[0, 0, 0], [1, 1, 0], [1, 1, 0]], (40, 40, count)))[1]
    assert hardest.startswith(f"The hardest class is c: 0.0 % of its {count} photos are recognized.")
    assert hardest.endswith("add more of this class first.") == is_said

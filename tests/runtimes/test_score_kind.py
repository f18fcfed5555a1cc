from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from runtimes.score_reference import reference

from agent.runtimes.score_kind import seen_scores


@st.composite
def outputs(draw: st.DrawFn) -> tuple[list[list[float]], float]:
    """Rows of any numbers, or rows that nearly sum to 1 or 100, some of them quantized."""
    labels, images = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    step = draw(st.sampled_from([0.0, 1 / 256, 0.05, 0.4]))
    top, total = draw(st.sampled_from([(1.0, 1.0), (100.0, 100.0), (1.0, None), (100.0, None), (8.0, None)]))
    low = draw(st.sampled_from([0.0, 0.0, -0.001, -1.0, -20.0]))
    parts = st.lists(st.floats(low, top), min_size=labels, max_size=labels)
    rows = np.array([draw(parts) for _ in range(images)], np.float64)
    if total is not None:
        wanted = total * draw(st.sampled_from([1.0, 1.0, 0.985, 1.019, 1.03]))
        rows = np.abs(rows) + 1e-9
        rows *= wanted / rows.sum(axis=1, keepdims=True)
    if step:
        rows = np.round(rows / step) * step
    return rows.tolist(), step


@settings(max_examples=400)
@given(outputs())
def test_kind_follows_the_definition(case: tuple[list[list[float]], float]) -> None:
    rows, step = case
    seen = seen_scores(np.array(rows), step=step)
    assert seen.kind == reference(rows, step)
    sums = [sum(row) for row in rows]
    extremes = (min(map(min, rows)), max(map(max, rows)), min(sums), max(sums))
    assert (seen.lowest, seen.highest, seen.lowest_sum, seen.highest_sum) == pytest.approx(extremes, abs=2e-6)


@pytest.mark.parametrize(
    ("rows", "step", "kind"),
    [
        ([[0.5, 0.5], [0.981, 0.0]], 0.0, "distribution"),
        ([[0.5, 0.5], [0.979, 0.0]], 0.0, "independent"),
        ([[0.5, 0.5], [0.973, 0.0]], 1 / 128, "distribution"),  # half a step for each of two labels
        ([[0.5, 0.50000006], [1.0000002, 0.0]], 0.0, "distribution"),  # rounding errors of float32
        ([[1.0, 1.0], [0.0, 0.0]], 0.0, "independent"),
        ([[1.01, 0.0]], 0.0, "logits"),
        ([[1.01, 0.0]], 1 / 64, "distribution"),
        ([[-0.1, 1.0]], 0.0, "logits"),
        ([[50.0, 50.0], [99.0, 2.9]], 0.0, "percent"),
        ([[50.0, 50.0], [99.0, 3.1]], 0.0, "logits"),
        ([[50.0, 90.0]], 0.0, "logits"),  # independent and in percent: nothing tells it from logits
        ([[101.0, -1.0]], 0.0, "logits"),
        ([[0.3]], 0.0, "independent"),
        ([[7.0]], 0.0, "logits"),
    ],
)
def test_kind_at_the_limits_of_the_definition(rows: list[list[float]], step: float, kind: str) -> None:
    assert seen_scores(np.array(rows), step=step).kind == kind


def test_seen_scores_are_described_with_their_extremes() -> None:
    seen = seen_scores(np.array([[0.25, 0.75], [1.0, 0.5]]), step=0)
    assert str(seen) == "independent, seen from 0.25 to 1, with sums from 1 to 1.5"

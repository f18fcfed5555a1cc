from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.cameras.state import StableLabel
from agent.classification import Classification, ModelIdentity, Timing
from agent.runtimes.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.classification import StableState

MODEL = ModelIdentity("m", 1, "00" * 32)
NEWER = ModelIdentity("m", 2, "11" * 32)
LABELS = ("a", "b")
A, B, NONE = (0.9, 0.0), (0.0, 0.9), (0.0, 0.0)


def observe(
    stable: StableLabel,
    values: tuple[float, ...],
    at_s: float = 0,
    *,
    threshold: float = 0.5,
    model: ModelIdentity = MODEL,
    labels: tuple[str, ...] = LABELS,
    own: float | None = None,
    ahead_s: float = 60,
) -> StableState | None:
    """One frame, classified as the data plane does it; the clock is `ahead_s` ahead."""
    scores = Scores(np.asarray(values, np.float32), labels, 0.0, 0, are_logits=False, unknown_below=own)
    classification = Classification(model, scores.best(3, threshold=threshold), Timing(0, 0, 0, 0))
    return stable.observe(classification, scores, captured_ns=int(at_s * 1e9), unix_ns=int((at_s + ahead_s) * 1e9))


def states(stable: StableLabel, frames: Iterable[tuple[float, ...]]) -> list[tuple[int, str | None, float]]:
    """Of frames at one per second: when each state was announced, its label, and since when it holds."""
    announced = [(at, observe(stable, values, at)) for at, values in enumerate(frames)]
    return [(at, state.label, state.since_ns / 1e9 - 60) for at, state in announced if state is not None]


def test_state_starts_at_the_first_frame_with_its_label() -> None:
    assert states(StableLabel(frames=3), [A, A, A, B, B, B]) == [(2, "a", 0), (5, "b", 3)]


def test_state_stays_when_another_output_has_the_same_label() -> None:
    """As `crane`, the bird and the machine, among the labels of ImageNet."""
    stable = StableLabel(frames=1, leave_threshold=0.3)
    labels = ("a", "b", "a")
    assert observe(stable, (0.0, 0.1, 0.9), 0, labels=labels) is not None
    assert observe(stable, (0.0, 0.1, 0.4), 1, labels=labels) is None
    left = observe(stable, (0.2, 0.1, 0.2), 2, labels=labels)
    assert left is not None
    assert left.label is None


def test_state_has_the_time_of_its_first_frame_when_the_clock_is_set_meanwhile() -> None:
    stable = StableLabel(frames=2)
    observe(stable, A, 3)
    state = observe(stable, A, 5, ahead_s=1_000_000)
    assert state is not None
    assert state.since_ns == 1_000_003 * 10**9


def test_state_is_new_when_another_version_gives_the_same_label() -> None:
    stable = StableLabel(frames=1)
    assert observe(stable, A, 0) is not None
    assert observe(stable, A, 1) is None
    state = observe(stable, A, 2, model=NEWER)
    assert state is not None
    assert (state.label, state.model.version) == ("a", 2)


def test_state_does_not_change_when_a_label_flickers() -> None:
    assert states(StableLabel(frames=2), [A, A, B, A, A, B, A]) == [(1, "a", 0)]


def test_state_without_a_label_is_reported_when_nothing_reaches_the_threshold() -> None:
    frames = [NONE, NONE, A, A, NONE, NONE]
    assert states(StableLabel(frames=2), frames) == [(1, None, 0), (3, "a", 2), (5, None, 4)]


def test_state_changes_with_every_label_when_one_frame_is_enough() -> None:
    assert states(StableLabel(frames=1), [A, B, B, A]) == [(0, "a", 0), (1, "b", 1), (3, "a", 3)]


def test_state_is_left_only_below_the_leave_threshold() -> None:
    frames = [A, A, (0.3, 0), (0.29, 0), (0.3, 0), (0.29, 0), (0.29, 0), (0.3, 0), (0.3, 0)]
    assert states(StableLabel(frames=2, leave_threshold=0.3), frames) == [(1, "a", 0), (6, None, 5)]


def test_state_is_entered_only_at_the_score_threshold_whatever_the_leave_threshold() -> None:
    assert states(StableLabel(frames=2, leave_threshold=0.3), [(0.4, 0)] * 3 + [A, (0.4, 0)]) == [(1, None, 0)]


def test_state_is_left_for_a_label_that_reaches_the_score_threshold() -> None:
    frames = [A, (0.45, 0.49), (0.45, 0.55)]
    assert states(StableLabel(frames=1, leave_threshold=0.3), frames) == [(0, "a", 0), (2, "b", 2)]


def test_state_is_left_when_a_new_version_does_not_have_its_label() -> None:
    stable = StableLabel(frames=1, leave_threshold=0.3)
    observe(stable, A)
    state = observe(stable, (0.4, 0.4), 1, model=NEWER, labels=("c", "d"))
    assert state is not None
    assert state.label is None


def test_state_lasts_for_its_hold_time_before_another_one_is_announced() -> None:
    frames = [A, B, B, B, A, B, B, B, B, B]
    # From 0 s to 3 s `a` is held, from 3 s to 6 s `b`: the `a` at 4 s comes too early.
    assert states(StableLabel(frames=1, hold_s=3), frames) == [(0, "a", 0), (3, "b", 1)]
    assert states(StableLabel(frames=1, hold_s=3), [*frames, A]) == [(0, "a", 0), (3, "b", 1), (10, "a", 10)]


def test_hold_time_does_not_depend_on_the_clock() -> None:
    stable = StableLabel(frames=1, hold_s=3)
    scores = Scores(np.asarray(A, np.float32), LABELS, 0.0, 0, are_logits=False)
    stable.observe(Classification(MODEL, scores.best(1), Timing(0, 0, 0, 0)), scores, captured_ns=0, unix_ns=10**18)
    assert observe(stable, B, 2.9) is None
    assert observe(stable, B, 3) is not None


def test_new_version_is_announced_within_the_hold_time_and_does_not_extend_it() -> None:
    stable = StableLabel(frames=1, hold_s=3)
    assert observe(stable, A, 0) is not None
    assert observe(stable, A, 2, model=NEWER) is not None
    assert observe(stable, B, 3, model=NEWER) is not None


def test_state_follows_the_mean_of_the_scores() -> None:
    frames = [A, A, (0.2, 0.8), A, A, (0.2, 0.8), (0.2, 0.8)]
    # The means of three: .9/0, .9/0, .67/.27, .67/.27, .67/.27, .67/.27, .43/.53
    assert states(StableLabel(frames=1, mean_frames=3), frames) == [(0, "a", 0), (6, "b", 6)]


def test_state_has_the_mean_score() -> None:
    stable = StableLabel(frames=3, mean_frames=2)
    announced = [observe(stable, (score, 0), at) for at, score in enumerate((0.9, 0.8, 0.6))]
    assert announced[2] is not None
    assert announced[2].score == pytest.approx(0.7)


def test_mean_counts_no_frames_of_another_version() -> None:
    stable = StableLabel(frames=1, mean_frames=10)
    for at in range(5):
        observe(stable, A, at)
    state = observe(stable, (0.9, 0.1, 0.8), 5, model=NEWER, labels=("c", "a", "d"))
    assert state is not None
    assert state.label == "c"
    assert state.score == pytest.approx(0.9)


def test_mean_stays_above_the_leave_threshold() -> None:
    frames = [A, A, NONE, NONE, NONE]  # means of two: .9, .9, .45, 0
    stable = StableLabel(frames=1, mean_frames=2, leave_threshold=0.4)
    assert states(stable, frames) == [(0, "a", 0), (3, None, 3)]


def test_mean_is_compared_with_the_models_own_threshold_if_none_is_given() -> None:
    stable = StableLabel(frames=1, score_threshold=None, mean_frames=2)
    assert observe(stable, (0.6, 0), 0, threshold=0.62, own=0.62) is not None
    state = observe(stable, (0.7, 0), 1, threshold=0.62, own=0.62)
    assert state is not None
    assert state.label == "a"
    assert state.score == pytest.approx(0.65)


def test_state_is_not_settled_after_its_thresholds_were_adjusted() -> None:
    stable = StableLabel(frames=1)
    observe(stable, (0.6, 0))
    stable.adjust(score_threshold=0.7, leave_threshold=None)
    assert not stable.is_settled
    assert observe(stable, (0.6, 0), 1, threshold=0.7) is not None
    assert stable.is_settled


@pytest.mark.parametrize(
    ("options", "frames", "settled"),
    [
        ({"frames": 2}, [A, A, A, B, B, B, A, B], [False, True, True, False, True, True, False, True]),
        ({"frames": 1, "hold_s": 3}, [A, B, B, B, B], [True, False, False, True, True]),
        # The mean of the third frame still has the label of the state, but the frame alone does not.
        ({"frames": 1, "mean_frames": 3}, [A, A, B, B, B], [True, True, False, True, True]),
        ({"frames": 1, "leave_threshold": 0.3}, [A, (0.4, 0), NONE], [True, True, True]),
    ],
)
def test_state_is_settled_when_the_newest_frame_agrees_with_it(
    options: dict[str, float],
    frames: list[tuple[float, float]],
    settled: list[bool],
) -> None:
    stable = StableLabel(**options)  # type: ignore[arg-type]  # mypy does not look into the dict
    assert not stable.is_settled
    seen = []
    for at, values in enumerate(frames):
        observe(stable, values, at)
        seen.append(stable.is_settled)
    assert seen == settled


def test_changed_leave_threshold_counts_from_the_next_frame_on() -> None:
    stable = StableLabel(frames=1, score_threshold=0.5)
    assert observe(stable, A, 0) is not None
    stable.adjust(score_threshold=0.5, leave_threshold=0.3)
    assert observe(stable, (0.4, 0.0), 1) is None
    stable.adjust(score_threshold=0.5, leave_threshold=None)
    left = observe(stable, (0.4, 0.0), 2)
    assert left is not None
    assert left.label is None

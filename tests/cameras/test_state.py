from __future__ import annotations

from agent.cameras.state import StableLabel
from agent.classification import Category, Classification, ModelIdentity, Timing

MODEL = ModelIdentity("m", 1, "00" * 32)


def saying(label: str | None, score: float = 0.9) -> Classification:
    categories = () if label is None else (Category(0, label, score),)
    return Classification(MODEL, categories, Timing(0, 0, 0, 0))


def observe(labels: list[str | None], *, frames: int) -> list[tuple[int, str | None, int]]:
    stable = StableLabel(frames=frames)
    changes = [(at, stable.observe(saying(label), at)) for at, label in enumerate(labels)]
    return [(at, state.label, state.since_ns) for at, state in changes if state is not None]


def test_the_state_dates_from_the_first_frame_that_showed_it() -> None:
    assert observe(["a", "a", "a", "b", "b", "b"], frames=3) == [(2, "a", 0), (5, "b", 3)]


def test_another_version_with_the_same_label_is_a_new_state() -> None:
    stable = StableLabel(frames=1)
    newer = Classification(ModelIdentity("m", 2, "11" * 32), (Category(0, "a", 0.9),), Timing(0, 0, 0, 0))
    assert stable.observe(saying("a"), 0) is not None
    assert stable.observe(saying("a"), 1) is None
    state = stable.observe(newer, 2)
    assert state is not None
    assert (state.label, state.model.version) == ("a", 2)


def test_a_flicker_changes_nothing() -> None:
    assert observe(["a", "a", "b", "a", "a", "b", "a"], frames=2) == [(1, "a", 0)]


def test_nothing_above_the_threshold_is_a_state_of_its_own() -> None:
    assert observe([None, None, "a", "a", None, None], frames=2) == [(1, None, 0), (3, "a", 2), (5, None, 4)]


def test_one_stable_frame_reports_every_change() -> None:
    assert observe(["a", "b", "b", "a"], frames=1) == [(0, "a", 0), (1, "b", 1), (3, "a", 3)]

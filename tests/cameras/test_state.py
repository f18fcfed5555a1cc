from __future__ import annotations

from agent.cameras.state import StableLabel
from agent.classification import Category, Classification, ModelIdentity, Timing

MODEL = ModelIdentity("m", 1, "00" * 32)


def classification_of(label: str | None, score: float = 0.9) -> Classification:
    categories = () if label is None else (Category(0, label, score),)
    return Classification(MODEL, categories, Timing(0, 0, 0, 0))


def observe(labels: list[str | None], *, frames: int) -> list[tuple[int, str | None, int]]:
    stable = StableLabel(frames=frames)
    changes = [(at, stable.observe(classification_of(label), at)) for at, label in enumerate(labels)]
    return [(at, state.label, state.since_ns) for at, state in changes if state is not None]


def test_state_starts_at_the_first_frame_with_its_label() -> None:
    assert observe(["a", "a", "a", "b", "b", "b"], frames=3) == [(2, "a", 0), (5, "b", 3)]


def test_state_is_new_when_another_version_gives_the_same_label() -> None:
    stable = StableLabel(frames=1)
    newer = Classification(ModelIdentity("m", 2, "11" * 32), (Category(0, "a", 0.9),), Timing(0, 0, 0, 0))
    assert stable.observe(classification_of("a"), 0) is not None
    assert stable.observe(classification_of("a"), 1) is None
    state = stable.observe(newer, 2)
    assert state is not None
    assert (state.label, state.model.version) == ("a", 2)


def test_state_does_not_change_when_a_label_flickers() -> None:
    assert observe(["a", "a", "b", "a", "a", "b", "a"], frames=2) == [(1, "a", 0)]


def test_state_without_a_label_is_reported_when_nothing_reaches_the_threshold() -> None:
    assert observe([None, None, "a", "a", None, None], frames=2) == [(1, None, 0), (3, "a", 2), (5, None, 4)]


def test_state_changes_with_every_label_when_one_frame_is_enough() -> None:
    assert observe(["a", "b", "b", "a"], frames=1) == [(0, "a", 0), (1, "b", 1), (3, "a", 3)]

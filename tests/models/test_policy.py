"""Policy: pure functions, so these tests need neither a loop nor a disk."""

from __future__ import annotations

import pytest

from agent.model_file.settings import ModelSettings
from agent.models.policy import aspired, why_blamed
from agent.models.versions import ModelHistory, Version


def version(number: int, *, proven: bool = True, starts: int = 0, withdrawn: str | None = None) -> Version:
    return Version(
        number=number,
        sha256=f"{number:064}",
        sidecar=ModelSettings(),
        file="m.tflite",
        fingerprint=((number, 0, 0),),
        admitted_ns=0,
        bytes_each=0,
        cpu_ms=1.0,
        proven=proven,
        starts=starts,
        withdrawn=withdrawn,
    )


def history(*versions: Version, stable: int | None = None, pinned: int | None = None) -> ModelHistory:
    return ModelHistory(versions, given=len(versions), stable=stable, pinned=pinned)


def numbers(
    model: ModelHistory, best: int | None, *, unloadable: tuple[int, ...] = (), has_canary: bool = False
) -> tuple[int | None, int | None]:
    stable, canary = aspired(model, best=best, unloadable=unloadable, has_canary=has_canary)
    return stable.number if stable else None, canary.number if canary else None


def test_nothing_is_aspired_without_a_good_version() -> None:
    assert numbers(history(), best=None) == (None, None)
    assert numbers(history(version(1, withdrawn="It failed.")), best=1) == (None, None)


def test_best_version_in_the_folder_is_preferred_to_the_stable_one() -> None:
    model = history(version(1), version(2), stable=2)
    assert numbers(model, best=1) == (1, None)
    assert numbers(model, best=7) == (2, None)
    assert numbers(model, best=None) == (2, None)


def test_newest_proven_version_is_preferred_to_a_newer_unproven_one() -> None:
    assert numbers(history(version(1), version(2), version(3, proven=False)), best=None) == (2, None)
    assert numbers(history(version(1, proven=False), version(2, proven=False)), best=None) == (2, None)


def test_withdrawn_version_is_not_aspired_even_if_it_is_in_the_folder() -> None:
    model = history(version(1), version(2, withdrawn="It failed."), stable=2)
    assert numbers(model, best=2) == (1, None)


def test_next_version_is_aspired_when_one_does_not_load() -> None:
    model = history(version(1), version(2), version(3), stable=2)
    assert numbers(model, best=3, unloadable=(3,)) == (2, None)
    assert numbers(model, best=3, unloadable=(3, 2)) == (1, None)
    assert numbers(model, best=3, unloadable=(1, 2, 3)) == (None, None)


def test_pinned_version_serves_alone_while_it_loads() -> None:
    model = history(version(1), version(2), version(3), stable=2, pinned=1)
    assert numbers(model, best=3, has_canary=True) == (1, None)
    assert numbers(model, best=3, unloadable=(1,), has_canary=True) == (2, 3)


def test_new_version_is_a_canary_if_the_model_has_one() -> None:
    model = history(version(1), version(2), stable=1)
    assert numbers(model, best=2, has_canary=True) == (1, 2)
    assert numbers(model, best=1, has_canary=True) == (1, None)
    assert numbers(model, best=None, has_canary=True) == (1, None)


def test_first_version_is_not_a_canary() -> None:
    assert numbers(history(version(1)), best=1, has_canary=True) == (1, None)
    assert numbers(history(version(1), version(2), stable=1), best=2, unloadable=(1,), has_canary=True) == (2, None)


@pytest.mark.parametrize(
    ("suspect", "crashed", "has_others", "words"),
    [
        (version(1, proven=False, starts=1), True, True, "crashed while this version was on probation"),
        (version(1, proven=False, starts=2), True, False, None),
        (version(1, proven=False, starts=2), False, True, None),
        (version(1, proven=True, starts=2), True, True, None),
        (version(1, proven=False, starts=3), False, False, "crashed on 3 consecutive starts"),
        (version(1, proven=True, starts=4), True, True, "crashed on 4 consecutive starts"),
    ],
)
def test_version_is_blamed_after_a_crash_on_probation_or_three_failed_starts(
    suspect: Version, *, crashed: bool, has_others: bool, words: str | None
) -> None:
    reason = why_blamed("m", suspect, crashed=crashed, has_others=has_others)
    assert (reason is not None) == (words is not None)
    if reason is not None and words is not None:
        assert words in reason
        assert "edge-agent models pin m 1" in reason

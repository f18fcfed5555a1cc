"""The values of the history: how a model's versions change."""

from __future__ import annotations

import dataclasses

import pytest

from agent.errors import ModelError
from agent.model_file.settings import ModelSettings
from agent.models.versions import ModelHistory, Version

BARE = ModelSettings()


def version(number: int, **changes: object) -> Version:
    plain = Version(
        number=number,
        sha256=f"sha256 of {number}",
        sidecar=BARE,
        file="m.tflite",
        fingerprint=((number, 0, 0),),
        admitted_ns=0,
        bytes_each=0,
        cpu_ms=1.0,
        proven=True,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def history(*versions: Version, **fields: int) -> ModelHistory:
    return ModelHistory(versions, given=len(versions), **fields)


def test_withdrawn_version_is_not_good_and_no_longer_pinned() -> None:
    after = history(version(1), version(2, starts=2), pinned=2).withdrawn(2, "It failed.", at_ns=7)
    assert [each.number for each in after.good] == [1]
    assert after.find(2) == version(2, withdrawn="It failed.", withdrawn_ns=7)
    assert after.pinned is None
    assert history(version(1), version(2), pinned=1).withdrawn(2, "It failed.", at_ns=7).pinned == 1


def test_pin_puts_a_withdrawn_version_on_probation_again() -> None:
    before = history(version(1), version(2, withdrawn="It failed."))
    after = before.pinned_to(2)
    assert (after.pinned, after.find(2)) == (2, version(2, proven=False))
    assert after.pinned_to(1).find(1) == version(1)


def test_undoing_a_pin_keeps_later_changes() -> None:
    before = history(version(1), version(2, withdrawn="It failed."), pinned=1)
    meanwhile = before.pinned_to(2).with_version(version(3))
    after = meanwhile.with_pin_undone(2, before)
    assert after == before.with_version(version(3))


def test_undoing_a_pin_does_not_restore_a_missing_version() -> None:
    before = history(version(1), version(2), stable=1)
    after = before.pinned_to(2).without(2).with_pin_undone(2, before)
    assert (after.pinned, after.find(2)) == (None, None)


def test_candidate_is_recognized_as_the_newest_the_serving_or_a_withdrawn_version() -> None:
    model = history(version(1), version(2), version(3, withdrawn="It failed."), version(4), stable=1)
    recognized = [model.recognized(f"sha256 of {number}", BARE, None) for number in (1, 2, 3, 4, 5)]
    assert [each and each.number for each in recognized] == [1, None, 3, 4, None]
    assert model.recognized("sha256 of 4", ModelSettings(labels=("a",)), None) is None


def test_candidate_with_a_number_must_be_the_version_of_that_number() -> None:
    model = history(version(1), version(2))
    assert model.recognized("sha256 of 1", BARE, 1) == version(1)
    assert model.recognized("sha256 of 1", BARE, 7) is None
    with pytest.raises(ModelError, match="Version 2 was already admitted with another file"):
        model.recognized("sha256 of 1", BARE, 2)


def test_trimmed_history_keeps_the_newest_the_serving_and_those_in_the_folder() -> None:
    model = history(*(version(number, proven=number < 5) for number in range(1, 9)), stable=2, pinned=1)
    kept = model.trimmed(2, present=[((3, 0, 0),)])
    assert [each.number for each in kept.versions] == [1, 2, 3, 4, 7, 8]
    assert kept.given == 8


def test_trimmed_history_remembers_more_withdrawn_versions_than_it_keeps_copies() -> None:
    model = history(*(version(number, withdrawn="It failed.") for number in range(1, 61)))
    kept = model.trimmed(2, present=[])
    assert [each.number for each in kept.versions] == list(range(11, 61))
    assert [each.number for each in kept.versions if each.is_kept] == [59, 60]


def test_retired_history_keeps_the_numbers_and_the_withdrawn_versions() -> None:
    model = history(version(1), version(2, withdrawn="It failed."), signed=5, stable=1, pinned=1)
    assert model.retired() == ModelHistory((version(2, withdrawn="It failed.", is_kept=False),), given=2, signed=5)

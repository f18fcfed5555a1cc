"""Withdrawals of versions that fail their probation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from agents.clock import Clock
from agents.managed import (
    ONE,
    TWO,
    answer,
    decided,
    drop,
    dropped,
    next_start,
    observe,
    times,
)

from agent.errors import ModelError, ModelNotFoundError, NotFiniteError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.classification import Timing


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("outcomes", "cause"),
    [
        ([ModelError("It fails.")] * 3, "failures"),
        ([NotFiniteError("NaN.")], "nan"),
        ([answer(500)] * 20, "slow"),
    ],
)
async def test_previous_version_serves_when_a_version_fails_its_probation(
    folder: Path, outcomes: list[Timing | ModelError], cause: str
) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    assert managed.status().probation
    observe(managed, *outcomes)
    await decided()
    assert managed.version() == 1
    assert managed.rollbacks == [("m", cause)]
    await managed.reconcile()
    assert "Version 2 was withdrawn while on probation" in managed.reason()
    assert "restore this one: edge-agent models pin m 2" in (folder / "m.tflite.rejected.txt").read_text()
    again = await next_start(managed)
    await again.reconcile()
    assert (again.version(), again.reason() != "") == (1, True)


@pytest.mark.anyio
async def test_only_version_is_kept_when_it_is_slow_but_withdrawn_when_it_fails(folder: Path) -> None:
    managed = await dropped(folder, times=times(retire_after_s=0))
    drop(folder, ONE)
    await managed.reconcile()
    observe(managed, *[answer(500)] * 20)
    await decided()
    assert (managed.version(), managed.status().probation) == (1, False)
    (folder / "m.tflite").unlink()
    await managed.reconcile()
    drop(folder, TWO)
    await managed.reconcile()
    observe(managed, NotFiniteError("NaN."))
    await decided()
    assert managed.version() is None
    await managed.reconcile()
    with pytest.raises(ModelNotFoundError, match="withdrawn while on probation"):
        managed.manager.get("m")


@pytest.mark.anyio
async def test_version_is_proven_after_its_probation_and_later_failures_do_not_count(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    observe(managed, *[answer()] * 100)
    await decided()
    assert not managed.status().probation
    observe(managed, *[ModelError("It fails.")] * 5)
    await decided()
    assert managed.version() == 2
    assert json.loads((folder.parent / "state/history.json").read_text())["models"]["m"]["versions"][1]["proven"]


@pytest.mark.anyio
async def test_probation_ends_by_time_when_there_are_few_images(folder: Path) -> None:
    clock = Clock()
    managed = await dropped(folder, ONE, times=times(clock=clock))
    drop(folder, TWO)
    await managed.reconcile()
    observe(managed, *[answer()] * 3)
    assert managed.status().probation
    clock.now_s += 60
    await managed.reconcile()
    assert not managed.status().probation


@pytest.mark.anyio
async def test_last_call_of_a_replaced_version_is_ignored(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    old = managed.manager.get("m")
    drop(folder, TWO)
    await managed.reconcile()
    managed.manager.observe(old, NotFiniteError("NaN."))
    await decided()
    assert (managed.version(), managed.rollbacks) == (2, [])


@pytest.mark.anyio
async def test_withdrawn_file_is_not_announced_as_a_candidate_at_every_pass(folder: Path) -> None:
    managed = await dropped(folder)
    drop(folder, ONE)
    await managed.reconcile()
    observe(managed, NotFiniteError("NaN."))
    await decided()
    again = await next_start(managed)
    await again.reconcile()
    announced = len(again.statuses)
    await again.reconcile()
    assert len(again.statuses) == announced
    assert not any(status.candidate for status in again.statuses)

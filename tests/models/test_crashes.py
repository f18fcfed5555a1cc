"""Which version is blamed after the agent crashed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    ONE,
    TWO,
    Managed,
    drop,
    dropped,
    next_start,
    prove,
    simulate_power_cut,
    start_after_crash,
)

from agent.models.policy import Rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_previous_version_serves_after_a_crash_on_probation(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    again = await start_after_crash(managed)
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])
    await again.reconcile()
    assert again.version() == 1
    assert "The agent crashed while this version was on probation" in again.reason()
    third = await start_after_crash(again)
    await third.reconcile()
    assert (third.version(), third.rollbacks) == (1, [])


@pytest.mark.anyio
async def test_proven_version_is_not_blamed_for_a_crash_or_a_clean_stop(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    managed = await next_start(managed)
    assert (managed.version(), managed.status().probation) == (2, True)
    await prove(managed)
    await managed.reconcile()
    for _ in range(4):
        managed = await start_after_crash(managed)
        assert (managed.version(), managed.rollbacks) == (2, [])


@pytest.mark.anyio
async def test_version_is_withdrawn_after_three_power_cuts_on_probation(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    for start in (2, 3):
        simulate_power_cut(managed)
        managed = await start_after_crash(managed)
        assert managed.version() == 2, f"start {start}"
    simulate_power_cut(managed)
    managed = await start_after_crash(managed)
    assert managed.version() == 1
    await managed.reconcile()
    assert "crashed on 3 consecutive starts" in managed.reason()


@pytest.mark.anyio
async def test_only_version_is_withdrawn_after_three_crashes(folder: Path) -> None:
    managed = await dropped(folder)
    drop(folder, ONE)
    await managed.reconcile()
    for _ in (2, 3):
        managed = await start_after_crash(managed)
        assert managed.version() == 1
    managed = await start_after_crash(managed)
    await managed.reconcile()
    assert managed.version() is None
    assert "crashed on 3 consecutive starts" in managed.reason()
    drop(folder, TWO)
    await managed.reconcile()
    assert managed.version() == 2


@pytest.mark.anyio
async def test_proven_version_is_withdrawn_after_three_starts_that_crashed_while_loading_it(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.close()
    for _ in range(3):
        dying = Managed(folder)
        assert dying.history.blame_last_run() == []
        await dying.history.begin_loading("m", 2)
    managed = await start_after_crash(managed)
    assert (managed.version(), managed.rollbacks) == (1, [("m", "crash")])


@pytest.mark.anyio
async def test_promoted_version_on_probation_is_blamed_for_a_crash(folder: Path) -> None:
    managed = await dropped(folder, ONE, rules=Rules(canary_shares={"m": 0.5}))
    drop(folder, TWO)
    await managed.reconcile()
    await managed.manager.promote("m")
    again = await start_after_crash(managed, rules=Rules(canary_shares={"m": 0.5}))
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])


@pytest.mark.anyio
async def test_last_good_version_is_kept_after_one_crash(folder: Path) -> None:
    managed = await dropped(folder, rules=Rules(canary_shares={"m": 0.5}))
    for content in (ONE, TWO):
        drop(folder, content)
        await managed.reconcile()
    assert (managed.version(), len(managed.manager.canaries)) == (1, 1)
    again = await start_after_crash(managed, rules=Rules(canary_shares={"m": 0.5}))
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])


@pytest.mark.anyio
async def test_crash_is_blamed_only_on_the_model_that_was_loading(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.history.begin_loading("m", 2)
    await managed.history.begin_loading("n", 1)
    managed.history.end_loading("n")
    await managed.history.save()
    again = Managed(folder)
    for _ in range(2):
        simulate_power_cut(managed)
        again = Managed(folder)
        assert again.history.blame_last_run() == []
        await again.history.begin_loading("m", 2)
    again = await start_after_crash(managed)
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])


@pytest.mark.anyio
async def test_history_does_not_list_a_version_as_loading_after_it_has_loaded(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    managed = await next_start(managed)
    document = json.loads((folder.parent / "state/history.json").read_text())
    assert document["loading"] == {}

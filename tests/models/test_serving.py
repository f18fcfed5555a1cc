"""Swaps: what is unloaded first, and what happens when a version does not load."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    ONE,
    THREE,
    TWO,
    InProcessTrial,
    drop,
    dropped,
    next_start,
    refuse,
)

from agent.errors import ModelError
from agent.models.policy import Rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_old_version_is_unloaded_first_when_memory_is_short(folder: Path) -> None:
    free = 1 << 30
    managed = await dropped(
        folder, ONE, rules=Rules(unloads_first=True), trial=InProcessTrial(bytes_each=2 << 20), memory=lambda: free
    )
    assert managed.gaps == []
    served: list[int | None] = []
    managed.loader.before_load = lambda _: served.append(managed.version())
    drop(folder, TWO)
    free = 1 << 20
    await managed.reconcile()
    assert (served, managed.version()) == ([None], 2)
    assert [name for name, _ in managed.gaps] == ["m"]
    assert managed.gaps[0][1] > 0


@pytest.mark.anyio
async def test_gap_ends_when_the_old_version_serves_again(folder: Path) -> None:
    free = 1 << 30
    managed = await dropped(
        folder, ONE, rules=Rules(unloads_first=True), trial=InProcessTrial(bytes_each=2 << 20), memory=lambda: free
    )
    managed.loader.before_load = refuse(ModelError("It does not load."), number=2)
    drop(folder, TWO)
    free = 1 << 20
    await managed.reconcile()
    assert (managed.version(), [name for name, _ in managed.gaps]) == (1, ["m"])


@pytest.mark.anyio
async def test_old_version_is_not_unloaded_first_when_memory_suffices(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, rules=Rules(unloads_first=True))
    assert (managed.version(), managed.gaps) == (2, [])


@pytest.mark.anyio
async def test_old_version_serves_when_the_new_one_does_not_load_until_the_next_start(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    for content, error in ((TWO, ModelError("The runtime refuses it.")), (THREE, KeyError("x"))):
        managed.loader.before_load = refuse(error)
        drop(folder, content)
        await managed.reconcile()
        assert managed.version() == 1
        await managed.reconcile()
        assert "refuses it" in managed.reason() or "cannot be loaded (KeyError" in managed.reason()
    assert managed.rollbacks == []
    again = await next_start(managed)  # perhaps with a fixed configuration or another runtime
    assert again.version() == 1
    await again.reconcile()
    assert (again.version(), again.identity().sha256) == (3, hashlib.sha256(THREE).hexdigest())

"""Swaps: what is unloaded first, and what happens when a version does not load."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    ONE,
    THREE,
    TWO,
    TrialHere,
    die,
    drop,
    dropped,
    next_start,
)

from agent.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.models.loader import LoadedModel
    from agent.models.versions import Version


@pytest.mark.anyio
async def test_old_version_is_unloaded_first_when_memory_is_short(folder: Path) -> None:
    managed = await dropped(folder, ONE, unloads_first=True, trial=TrialHere(bytes_each=1000))
    assert managed.gaps == []
    served: list[int | None] = []
    load = managed.loader.load

    def loading(name: str, version: Version) -> LoadedModel:
        served.append(managed.version())
        return load(name, version)

    managed.loader.load = loading  # type: ignore[method-assign]
    drop(folder, TWO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.models.serving.free_bytes", lambda: 0)
        await managed.reconcile()
    assert (served, managed.version()) == ([None], 2)
    assert [name for name, _ in managed.gaps] == ["m"]
    assert managed.gaps[0][1] > 0


@pytest.mark.anyio
async def test_gap_lasts_until_something_serves_again_even_the_old_version(folder: Path) -> None:
    managed = await dropped(folder, ONE, unloads_first=True, trial=TrialHere(bytes_each=1000))
    load = managed.loader.load

    def only_one(name: str, version: Version) -> LoadedModel:
        if version.number == 2:
            raise ModelError("It does not load.")
        return load(name, version)

    managed.loader.load = only_one  # type: ignore[method-assign]
    drop(folder, TWO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.models.serving.free_bytes", lambda: 0)
        await managed.reconcile()
    assert (managed.version(), [name for name, _ in managed.gaps]) == (1, ["m"])


@pytest.mark.anyio
async def test_nothing_is_unloaded_first_when_memory_suffices(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, unloads_first=True)
    assert (managed.version(), managed.gaps) == (2, [])


@pytest.mark.anyio
async def test_version_that_does_not_load_leaves_the_old_one_and_is_tried_at_the_next_start(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    load = managed.loader.load
    for content, error in ((TWO, ModelError("The runtime refuses it.")), (THREE, KeyError("x"))):
        managed.loader.load = die(error)  # type: ignore[method-assign]
        drop(folder, content)
        await managed.reconcile()
        assert managed.version() == 1
        await managed.reconcile()
        assert "refuses it" in managed.reason() or "cannot be loaded (KeyError" in managed.reason()
    managed.loader.load = load  # type: ignore[method-assign]
    assert managed.rollbacks == []
    again = await next_start(managed)  # with the configuration mended, or another runtime
    assert again.version() == 1
    await again.reconcile()
    assert (again.version(), again.identity().sha256) == (3, hashlib.sha256(THREE).hexdigest())

"""Canaries: new versions that first get a share of the uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    ONE,
    THREE,
    TWO,
    InProcessTrial,
    decided,
    drop,
    dropped,
    next_start,
)

from agent.errors import ModelNotFoundError, NotFiniteError
from agent.models.policy import Rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_canary_gets_its_share_of_uploads_until_it_is_promoted(folder: Path) -> None:
    managed = await dropped(folder, ONE, rules=Rules(canary_shares={"m": 0.25}))
    drop(folder, TWO)
    await managed.reconcile()
    assert (managed.version(), managed.manager.canaries["m"].identity.version) == (1, 2)
    assert managed.states() == {2: "canary", 1: "serving"}
    answered = [managed.manager.for_upload("m").identity.version for _ in range(100)]
    assert (answered.count(2), answered[:4].count(2)) == (25, 1)
    for version, number in {None: 1, "stable": 1, "canary": 2, "1": 1, "2": 2}.items():
        assert managed.manager.get("m", version).identity.version == number
    assert {managed.manager.for_upload("m", "stable").identity.version for _ in range(8)} == {1}
    with pytest.raises(ModelNotFoundError, match="does not serve 7 now; its stable version is 1"):
        managed.manager.get("m", "7")
    again = await next_start(managed, rules=Rules(canary_shares={"m": 0.25}))
    await again.reconcile()
    assert (again.version(), again.manager.canaries["m"].identity.version) == (1, 2)
    loaded = again.manager.canaries["m"].loaded
    await again.manager.promote("m")
    assert (again.version(), dict(again.manager.canaries)) == (2, {})
    assert again.manager.get("m").loaded is loaded


@pytest.mark.anyio
async def test_stable_version_serves_when_a_canary_fails_or_is_rolled_back(folder: Path) -> None:
    managed = await dropped(folder, ONE, rules=Rules(canary_shares={"m": 0.5}))
    for content, fails in ((TWO, True), (THREE, False)):
        drop(folder, content)
        await managed.reconcile()
        canary = managed.manager.canaries["m"]
        if fails:
            managed.manager.observe(canary, NotFiniteError("NaN."))
            await decided()
        else:
            await managed.manager.rollback("m")
        await managed.reconcile()
        assert (managed.version(), dict(managed.manager.canaries)) == (1, {})
        assert managed.reason()
    assert managed.rollbacks == [("m", "nan"), ("m", "operator")]


@pytest.mark.anyio
async def test_new_version_serves_immediately_when_its_model_has_no_canary_share(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, rules=Rules(canary_shares={"n": 0.5}))
    assert (managed.version(), dict(managed.manager.canaries)) == (2, {})
    assert managed.manager.for_upload(None).identity.version == 2


@pytest.mark.anyio
async def test_pin_and_unpin_do_not_promote_a_canary(folder: Path) -> None:
    managed = await dropped(folder, ONE, rules=Rules(canary_shares={"m": 0.5}))
    drop(folder, TWO)
    await managed.reconcile()
    await managed.manager.pin("m", 2)
    await managed.manager.unpin("m")
    assert (managed.version(), managed.manager.canaries["m"].identity.version) == (1, 2)
    await managed.manager.promote("m")
    await managed.manager.pin("m", 1)
    await managed.manager.unpin("m")
    assert (managed.version(), dict(managed.manager.canaries)) == (2, {})


@pytest.mark.anyio
async def test_memory_of_the_stable_version_is_not_available_for_a_canary(folder: Path) -> None:
    for shares, version, canary in (({"m": 0.5}, 1, None), ({}, 2, None)):
        free = 1 << 30
        managed = await dropped(
            folder,
            ONE,
            rules=Rules(canary_shares=shares, unloads_first=True),
            trial=InProcessTrial(bytes_each=2 << 20),
            memory=lambda: free,  # noqa: B023  (called only in this iteration)
        )
        free = 1 << 20
        drop(folder, TWO)
        await managed.reconcile()
        assert (managed.version(), managed.canary()) == (version, canary)
        assert ("MB are free" in managed.reason()) == bool(shares)

"""A new version that takes a share of the uploads first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    ONE,
    THREE,
    TWO,
    TrialHere,
    answer,
    decided,
    drop,
    dropped,
    next_start,
)

from agent.errors import ModelNotFoundError, NotFiniteError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_canary_takes_its_share_of_uploads_and_waits_to_be_promoted(folder: Path) -> None:
    managed = await dropped(folder, ONE, canary_shares={"m": 0.25})
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
    managed.manager.observe(managed.manager.get("m", "canary"), answer(managed))
    again = await next_start(managed, canary_shares={"m": 0.25})
    await again.reconcile()
    assert (again.version(), again.manager.canaries["m"].identity.version) == (1, 2)
    loaded = again.manager.canaries["m"].loaded
    await again.manager.promote("m")
    assert (again.version(), dict(again.manager.canaries)) == (2, {})
    assert again.manager.get("m").loaded is loaded


@pytest.mark.anyio
async def test_canary_that_fails_or_is_rolled_back_leaves_the_stable_version_alone(folder: Path) -> None:
    managed = await dropped(folder, ONE, canary_shares={"m": 0.5})
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
async def test_version_serves_at_once_when_its_model_has_no_canary_share(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, canary_shares={"n": 0.5})
    assert (managed.version(), dict(managed.manager.canaries)) == (2, {})
    assert managed.manager.for_upload(None).identity.version == 2


@pytest.mark.anyio
async def test_pin_and_unpin_leave_what_was_promoted_and_what_was_not(folder: Path) -> None:
    managed = await dropped(folder, ONE, canary_shares={"m": 0.5})
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
async def test_memory_of_the_stable_version_does_not_count_as_room_for_a_canary(folder: Path) -> None:
    sizes = {"trial": TrialHere(bytes_each=1000), "unloads_first": True}
    managed = await dropped(folder, ONE, canary_shares={"m": 0.5}, **sizes)
    assert managed.serving.bytes_to_free("m") == 0
    other = await dropped(folder, TWO, **sizes)
    assert other.serving.bytes_to_free("m") == 1000

"""Decisions of an operator: rollback, pin, unpin."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    FOUR,
    LONG_S,
    ONE,
    THREE,
    TWO,
    drop,
    dropped,
    next_start,
    nothing,
    put,
    refuse,
    times,
)

from agent.errors import ModelError, ModelNotFoundError, VersionError
from agent.models.policy import Rules

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_rolled_back_version_does_not_serve_again_when_its_file_stays_or_is_copied_again(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, THREE)
    await managed.manager.rollback("m")
    assert managed.version() == 2
    await managed.reconcile()
    assert managed.version() == 2
    assert "Version 3 was rolled back by hand" in managed.reason()
    assert (folder / "m.tflite.rejected.txt").read_text().startswith("Version 3 was rolled back")
    assert managed.states() == {3: "rejected", 2: "serving", 1: "admitted"}
    assert managed.rollbacks == [("m", "operator")]
    await managed.manager.rollback("m")
    assert managed.version() == 1
    with pytest.raises(VersionError, match="no other good version"):
        await managed.manager.rollback("m")
    again = await next_start(managed)
    await again.reconcile()
    assert again.version() == 1
    drop(folder, THREE)  # the same bytes, copied again
    await again.reconcile()
    assert again.version() == 1
    drop(folder, FOUR)
    await again.reconcile()
    assert (again.version(), again.reason(), (folder / "m.tflite.rejected.txt").exists()) == (4, "", False)


@pytest.mark.anyio
async def test_rollback_selects_the_next_lower_number_in_the_tensorflow_serving_layout(folder: Path) -> None:
    put(folder, 9, ONE)
    put(folder, 10, TWO)
    managed = await dropped(folder)
    assert managed.version() == 10
    with pytest.raises(VersionError, match="no other good version"):
        await managed.manager.rollback("m")  # 9 was never examined
    await managed.manager.pin("m", 9)
    assert managed.version() == 9
    await managed.manager.unpin("m")
    assert managed.version() == 10
    await managed.manager.rollback("m")
    assert managed.version() == 9
    await managed.reconcile()
    assert managed.version() == 9


@pytest.mark.anyio
async def test_rollback_is_refused_when_the_other_copies_are_missing(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    shutil.rmtree(managed.store.folder)
    with pytest.raises(VersionError, match="no other good version in the store"):
        await managed.manager.rollback("m")
    assert managed.version() == 2


@pytest.mark.anyio
async def test_pinned_version_keeps_serving_after_drops_and_restarts(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.pin("m", 1)
    drop(folder, THREE)
    await managed.reconcile()
    assert (managed.version(), managed.status().pinned) == (1, 1)
    assert managed.states() == {3: "admitted", 2: "admitted", 1: "serving"}
    with pytest.raises(VersionError, match="is pinned to version 1"):
        await managed.manager.rollback("m")
    again = await next_start(managed)
    await again.reconcile()
    assert again.version() == 1
    await again.manager.unpin("m")
    assert (again.version(), again.status().pinned) == (3, None)


@pytest.mark.anyio
async def test_pin_puts_a_withdrawn_version_on_probation(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.rollback("m")
    await managed.manager.pin("m", 2)
    assert (managed.version(), managed.status().probation) == (2, True)
    await managed.reconcile()
    assert managed.reason() == ""


@pytest.mark.anyio
async def test_commands_are_refused_when_the_version_or_model_does_not_exist(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    with pytest.raises(VersionError, match=r"no version 7 in the store\. Available: 1\."):
        await managed.manager.pin("m", 7)
    with pytest.raises(VersionError, match="no canary"):
        await managed.manager.promote("m")
    for act in (managed.manager.rollback, managed.manager.unpin, managed.manager.promote):
        with pytest.raises(ModelNotFoundError, match=r"Drop x\.tflite"):
            await act("x")
    put(folder, 8, b"no model")
    with pytest.raises(VersionError, match=r"Version 8 cannot serve: This is not a \.tflite model"):
        await managed.manager.pin("m", 8)
    managed = await next_start(managed, times=times(rest_s=LONG_S))
    put(folder, 9, TWO)
    with pytest.raises(VersionError, match="still being copied"):
        await managed.manager.pin("m", 9)


@pytest.mark.anyio
async def test_serving_version_stays_when_a_pinned_version_does_not_load(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    managed.loader.before_load = refuse(ModelError("The runtime refuses it."), number=1)
    with pytest.raises(VersionError, match=r"Version 1 of model m cannot serve: The runtime refuses it\."):
        await managed.manager.pin("m", 1)
    assert (managed.version(), managed.status().pinned) == (2, None)


@pytest.mark.anyio
async def test_version_stays_withdrawn_when_its_pin_fails(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.rollback("m")
    managed.loader.before_load = refuse(ModelError("No memory now."))
    with pytest.raises(VersionError, match=r"cannot serve: No memory now\."):
        await managed.manager.pin("m", 2)
    managed.loader.before_load = nothing
    assert managed.states() == {2: "rejected", 1: "serving"}
    assert (await next_start(managed)).version() == 1


@pytest.mark.anyio
async def test_pin_gives_the_reason_when_a_version_in_the_folder_cannot_serve(folder: Path) -> None:
    put(folder, 9, ONE)
    managed = await dropped(folder)
    put(folder, 8, b"no model")
    with pytest.raises(VersionError, match="Version 8 cannot serve"):
        await managed.manager.pin("m", 8)
    assert (managed.status().candidate, managed.status().trying) == (None, False)
    shutil.rmtree(folder)
    with pytest.raises(VersionError, match="cannot be listed"):
        await managed.manager.pin("m", 7)


@pytest.mark.anyio
async def test_pin_is_refused_when_the_copy_is_damaged(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    (one,) = (version for version in managed.status().versions if version.version == 1)
    path = managed.store.path(one.sha256)
    path.chmod(0o644)
    path.write_bytes(b"garbage")
    with pytest.raises(VersionError, match="Its copy in the store is damaged"):
        await managed.manager.pin("m", 1)
    assert (managed.version(), managed.status().pinned) == (2, None)


@pytest.mark.anyio
async def test_old_withdrawn_version_can_be_pinned_as_its_note_says(folder: Path) -> None:
    managed = await dropped(folder, ONE, rules=Rules(keep_versions=2))
    for content in (TWO, THREE, FOUR):
        drop(folder, content)
        await managed.reconcile()
        await managed.manager.rollback("m")
    await managed.reconcile()
    drop(folder, TWO)
    await managed.reconcile()
    assert "pin m 2" in managed.reason()
    await managed.manager.pin("m", 2)
    assert managed.version() == 2

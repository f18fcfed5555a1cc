"""What a restart preserves, and which versions are kept for it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    FOUR,
    ONE,
    THREE,
    TWO,
    Managed,
    decided,
    drop,
    dropped,
    next_start,
    nothing,
    observe,
    prove,
    refuse,
    start_after_crash,
    times,
)
from agents.models_on_disk import digits, photo_of_3
from agents.tiny_models import TinyModel, percent_model

from agent.errors import NotFiniteError, StoreError
from agent.model_file.settings import ModelSettings
from agent.models.policy import Rules
from agent.models.store import write_durably

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_version_numbers_continue_after_a_restart(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    again = await next_start(managed)
    assert (again.version(), again.trial.runs) == (2, [])
    await again.reconcile()
    assert (again.version(), again.trial.runs, again.loads) == (2, [], [])
    drop(folder, THREE)
    await again.reconcile()
    assert again.version() == 3


@pytest.mark.anyio
async def test_serving_version_is_loaded_from_the_store_after_a_restart(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    (folder / "m.tflite").write_bytes(b"half a co")
    again = await next_start(managed)
    assert (again.version(), again.label()) == (1, "3")
    await again.reconcile()
    assert again.version() == 1
    assert "not a .tflite" in again.reason()


@pytest.mark.anyio
async def test_sidecar_settings_are_kept_with_the_version(folder: Path) -> None:
    (folder / "m.txt").write_text("\n".join("abcdefghij"))
    managed = await dropped(folder, ONE)
    (folder / "m.txt").write_text("\n".join("ABCDEFGHIJ"))
    again = await next_start(managed)
    assert again.label() == "d"
    await again.reconcile()
    assert (again.version(), again.label()) == (2, "D")


@pytest.mark.anyio
async def test_configuration_overrides_the_kept_settings(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    again = await next_start(managed, settings={"m": ModelSettings(labels=tuple("abcdefghij"))})
    assert (again.version(), again.label()) == (1, "d")


@pytest.mark.anyio
async def test_file_copied_again_while_the_agent_was_stopped_is_not_a_new_version(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, ONE)
    again = await next_start(managed)
    await again.reconcile()
    assert (again.version(), again.loads) == (1, [])


@pytest.mark.anyio
async def test_model_is_retired_when_its_file_was_removed_while_the_agent_was_stopped(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    (folder / "m.tflite").unlink()
    again = await next_start(managed, times=times(retire_after_s=0))
    assert again.version() == 1
    await again.reconcile()
    assert again.version() is None
    assert again.copies() == set()
    drop(folder, ONE)
    await again.reconcile()
    assert again.version() == 2


@pytest.mark.anyio
async def test_store_keeps_the_newest_and_the_serving_versions(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, rules=Rules(keep_versions=2))
    await managed.manager.pin("m", 1)
    for content in (THREE, FOUR):
        drop(folder, content)
        await managed.reconcile()
    assert managed.version() == 1
    assert managed.states() == {4: "admitted", 3: "admitted", 2: "admitted", 1: "serving"}  # 2 is the newest proven one
    assert len(managed.copies()) == 4
    await managed.manager.unpin("m")
    await prove(managed)
    await managed.reconcile()
    assert managed.states() == {4: "serving", 3: "admitted"}
    assert managed.copies() == {version.sha256 for version in managed.status().versions}


@pytest.mark.anyio
async def test_copies_are_removed_when_they_will_not_serve_again(folder: Path) -> None:
    managed = await dropped(
        folder,
        *(digits(str(number)) for number in range(10, 16)),
        rules=Rules(keep_versions=2),
        times=times(retire_after_s=0),
    )
    for number in range(20, 24):
        drop(folder, digits(str(number)))
        await managed.reconcile()
        observe(managed, NotFiniteError("NaN."))
        await decided()
    await managed.reconcile()
    assert len(managed.history["m"].versions) > 4
    assert len(managed.copies()) <= 4
    (folder / "m.tflite").unlink()
    await managed.reconcile()
    await managed.reconcile()
    assert managed.copies() == set()
    drop(folder, digits("23"))
    await managed.reconcile()
    assert managed.version() is None
    assert "withdrawn while on probation" in managed.reason()


@pytest.mark.anyio
async def test_copies_are_kept_while_the_history_on_disk_is_out_of_date(folder: Path) -> None:
    is_full = False

    def write(path: Path, content: bytes) -> None:
        if is_full:
            raise StoreError("The disk is full.")
        write_durably(path, content)

    managed = await dropped(folder, ONE, rules=Rules(keep_versions=2), write=write)
    is_full = True
    for content in (TWO, THREE, FOUR):
        drop(folder, content)
        await managed.reconcile()
        await prove(managed)
    assert managed.version() == 4
    assert managed.manager.troubles == ["The disk is full."]
    again = await start_after_crash(managed, write=write)
    assert again.version() == 1
    is_full = False
    await managed.reconcile()
    assert managed.manager.troubles == []


@pytest.mark.anyio
async def test_file_is_admitted_again_when_its_copy_is_missing(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    shutil.rmtree(managed.store.folder)
    again = await next_start(managed)
    assert again.label() == "3"
    assert again.version() == 2


@pytest.mark.anyio
async def test_previous_version_serves_when_a_copy_is_damaged(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    path = managed.store.path(managed.identity().sha256)
    path.chmod(0o644)
    path.write_bytes(b"garbage")
    again = await next_start(managed)
    assert again.version() == 1
    await again.reconcile()
    assert (again.version(), again.identity().sha256) == (3, managed.identity().sha256)


@pytest.mark.anyio
async def test_version_serves_again_when_the_disk_was_temporarily_unreadable(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.close()
    again = Managed(folder)
    again.store.before_read = refuse(StoreError("The stored model cannot be read: Input/output error."))
    await again.start()
    assert (again.version(), len(again.history["m"].good)) == (None, 2)
    again.store.before_read = nothing
    await again.reconcile()
    assert again.version() == 2


@pytest.mark.anyio
async def test_damaged_history_is_set_aside_and_models_are_admitted_again(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.close()
    path = folder.parent / "state" / "history.json"
    for damage in (
        b"",
        b"{",
        path.read_bytes()[:-40],
        path.read_bytes().replace(b'"number": 2', b'"number": "x"'),
        b"\0" * 99,
    ):
        path.write_bytes(damage)
        again = await start_after_crash(managed)
        assert (again.version(), again.identity().sha256) == (1, managed.identity().sha256)
    assert list(path.parent.glob("history.json.damaged-*"))


@pytest.mark.anyio
async def test_agent_starts_when_the_history_is_unreadable(folder: Path) -> None:
    (folder.parent / "state" / "history.json").mkdir(parents=True)
    managed = await dropped(folder, ONE)
    assert (managed.version(), managed.manager.troubles) == (1, [])
    assert list((folder.parent / "state").glob("history.json.damaged-*"))


@pytest.mark.anyio
async def test_decision_about_the_scores_is_kept_with_the_version(folder: Path) -> None:
    (folder / "m.txt").write_text("a\nb\nc\n")
    (folder / "m.yaml").write_text("mean: 0\nstd: 255\n")
    managed = await dropped(folder, percent_model())
    (version,) = managed.history["m"].versions
    assert version.scores is not None
    assert version.scores.kind == "percent"
    scores, _ = managed.manager.get("m").classifier(0).scores(photo_of_3())
    assert sum(category.score for category in scores.best(3)) == pytest.approx(1, abs=1e-4)
    again = await next_start(managed)
    assert again.manager.get("m").classifier(0).seen == version.scores


@pytest.mark.anyio
async def test_scores_are_decided_again_when_the_configuration_chooses_another_output(folder: Path) -> None:
    model = TinyModel()
    logits = model.dense(model.pooled(model.image(1, 8, 8, 3), (1, 2), (1, 3)), 3)
    (folder / "m.txt").write_text("a\nb\nc\n")
    (folder / "m.yaml").write_text("mean: 0\nstd: 255\noutput: scores\n")
    managed = await dropped(folder, model.finish(logits, model.softmax(logits), names=("logits", "scores")))
    assert managed.manager.get("m").classifier(0).score == "probability"
    again = await next_start(managed, settings={"m": ModelSettings(output="logits")})
    assert again.manager.get("m").classifier(0).score == "logits"


@pytest.mark.anyio
async def test_scores_of_a_version_of_an_earlier_agent_are_decided_when_it_is_loaded(folder: Path) -> None:
    (folder / "m.txt").write_text("a\nb\nc\n")
    (folder / "m.yaml").write_text("mean: 0\nstd: 255\n")
    managed = await dropped(folder, percent_model())
    managed.history["m"] = managed.history["m"].changed(1, scores=None)
    await managed.history.save()
    again = await next_start(managed)
    assert again.manager.get("m").classifier(0).score == "percent"

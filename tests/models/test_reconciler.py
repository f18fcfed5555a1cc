"""Single passes over the folder: what serves after each, and what is reported."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from agents.clock import Clock
from agents.managed import (
    LONG_S,
    ONE,
    TWO,
    Managed,
    drop,
    dropped,
    next_start,
    put,
    times,
)
from agents.models_on_disk import (
    BARE_DIGITS,
    DEMO,
    DIGITS,
    LETTERS,
    digits,
    sha256,
    with_free_height,
    write_whole,
)

from agent.errors import ModelNotFoundError
from agent.status import ModelStatus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_version_stays_when_the_same_bytes_are_dropped_again(folder: Path) -> None:
    managed = Managed(folder)
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    served, since_ns = managed.manager.get("m"), managed.status().since_ns
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    assert managed.manager.get("m") is served
    assert managed.status().since_ns == since_ns
    assert managed.status().candidate is None
    write_whole(folder / "m.tflite", digits("2"))
    await managed.reconcile()
    assert managed.version() == 2


@pytest.mark.anyio
async def test_unchanged_files_are_not_loaded_again(folder: Path) -> None:
    managed = Managed(folder)
    write_whole(folder / "m.tflite", DIGITS)
    write_whole(folder / "bad.tflite", b"no model")
    for _ in range(3):
        await managed.reconcile()
    assert managed.loads == [("bad", "rejected"), ("m", "admitted")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (DIGITS[: len(DIGITS) * 99 // 100], "damaged"),
        (b"", "empty"),
        (b"<html>", "not a .tflite model"),
        (with_free_height(), "has no fixed input size"),
        (BARE_DIGITS, "has no labels for its 10 outputs"),
    ],
)
async def test_bad_candidate_changes_only_the_status(folder: Path, content: bytes, words: str) -> None:
    managed = Managed(folder)
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    served = managed.manager.get("m")
    write_whole(folder / "m.tflite", content)
    await managed.reconcile()
    assert managed.manager.get("m") is served
    assert managed.label() == "3"
    status = managed.status()
    assert (status.serving, status.candidate) == (served.identity, None)
    assert status.rejection is not None
    assert status.rejection.file == "m.tflite"
    assert words in status.rejection.reason
    assert managed.loads == [("m", "admitted"), ("m", "rejected")]


@pytest.mark.anyio
@pytest.mark.parametrize("repaired", [DIGITS, digits("2")])
async def test_repaired_file_clears_the_rejection(folder: Path, repaired: bytes) -> None:
    managed = Managed(folder)
    for content in (DIGITS, DIGITS[:1000]):
        write_whole(folder / "m.tflite", content)
        await managed.reconcile()
    assert managed.reason()
    write_whole(folder / "m.tflite", repaired)
    await managed.reconcile()
    assert managed.status().rejection is None
    assert managed.identity().sha256 == sha256(repaired)
    assert managed.version() == (1 if repaired == DIGITS else 2)


@pytest.mark.anyio
async def test_changed_sidecar_makes_a_new_version_of_the_same_bytes(folder: Path) -> None:
    managed = Managed(folder)
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    (folder / "m.txt").write_text("\n".join(LETTERS))
    await managed.reconcile()
    assert (managed.version(), managed.label()) == (2, "d")
    (folder / "m.yaml").write_text("maen: 1\n")
    await managed.reconcile()
    assert (managed.version(), managed.label()) == (2, "d")
    assert "unknown key 'maen'" in managed.reason()
    (folder / "m.yaml").unlink()
    await managed.reconcile()
    assert (managed.version(), managed.status().rejection) == (2, None)


@pytest.mark.anyio
async def test_model_keeps_serving_when_its_file_is_removed_before_the_next_is_copied(folder: Path) -> None:
    managed = Managed(folder, times=times(retire_after_s=LONG_S))
    (folder / "m.tflite").write_bytes(DIGITS)
    await managed.reconcile()
    (folder / "m.tflite").unlink()
    assert 0 < await managed.reconcile() <= LONG_S
    assert managed.version() == 1
    write_whole(folder / "m.tflite", DIGITS[:1000])
    await managed.reconcile()
    assert managed.version() == 1
    write_whole(folder / "m.tflite", digits("2"))
    await managed.reconcile()
    assert managed.version() == 2
    served = [status.serving is not None for status in managed.statuses]
    assert all(served[served.index(True) :])


@pytest.mark.anyio
async def test_long_trial_of_another_model_does_not_use_up_the_time_until_the_next_is_copied(folder: Path) -> None:
    clock = Clock()
    managed = await dropped(folder, ONE, times=times(retire_after_s=LONG_S, clock=clock))
    (folder / "m.tflite").unlink()
    await managed.reconcile()

    def slow(path: Path) -> None:
        if path.name == "a.tflite":
            clock.now_s += 2 * LONG_S
            drop(folder, TWO)

    managed.store.before_put = slow
    write_whole(folder / "a.tflite", digits("3"))
    await managed.reconcile()
    assert managed.version() == 1
    await managed.reconcile()
    assert managed.version() == 2
    assert managed.gaps == []


@pytest.mark.anyio
async def test_removing_a_rejected_file_forgets_the_rejection(folder: Path) -> None:
    managed = Managed(folder)
    (folder / "m.tflite").write_bytes(b"no model")
    await managed.reconcile()
    with pytest.raises(ModelNotFoundError, match=r"Model m is not served: This is not a .tflite model"):
        managed.manager.get("m")
    (folder / "m.tflite").unlink()
    await managed.reconcile()
    assert (managed.manager.statuses, managed.statuses[-1]) == ([], ModelStatus("m"))
    (folder / "m.tflite").write_bytes(DIGITS)
    await managed.reconcile()
    assert managed.version() == 1


@pytest.mark.anyio
async def test_highest_good_version_serves(folder: Path) -> None:
    def put(version: int, content: bytes) -> None:
        (folder / "m" / str(version)).mkdir(parents=True)
        write_whole(folder / "m" / str(version) / "model.tflite", content)

    managed = Managed(folder)
    put(9, digits("9"))
    put(10, digits("10"))
    await managed.reconcile()
    assert (managed.version(), managed.identity().sha256) == (10, sha256(digits("10")))
    put(11, b"no model")
    await managed.reconcile()
    rejection = managed.status().rejection
    assert managed.version() == 10
    assert rejection is not None
    assert rejection.file == "m/11/model.tflite"
    shutil.rmtree(folder / "m" / "10")
    await managed.reconcile()
    assert (managed.version(), managed.identity().sha256) == (9, sha256(digits("9")))
    assert managed.status().rejection is not None
    shutil.rmtree(folder / "m" / "11")
    await managed.reconcile()
    assert (managed.version(), managed.status().rejection) == (9, None)
    put(12, digits("9"))  # the same bytes, but the number of the folder decides
    await managed.reconcile()
    assert (managed.version(), managed.identity().sha256) == (12, sha256(digits("9")))
    put(8, digits("8"))
    await managed.reconcile()
    assert managed.version() == 12


@pytest.mark.anyio
async def test_ignored_files_are_not_examined(folder: Path) -> None:
    for name in (".m.tflite", "m.tflite~", "m.tflite.part", "m.tflite.tmp", "m.tflite.filepart"):
        (folder / name).write_bytes(DIGITS)
    (folder / "link.tflite").symlink_to(DEMO / "digits.tflite")
    (folder / "folder.tflite").mkdir()
    os.mkfifo(folder / "fifo.tflite")
    managed = Managed(folder)
    assert await managed.reconcile() == LONG_S
    assert (managed.manager.statuses, managed.statuses, managed.loads) == ([], [], [])


def nothing(_: Path) -> None: ...


def a_file(folder: Path) -> None:
    folder.write_bytes(b"a file instead of the folder")


def folder_again(folder: Path) -> None:
    folder.unlink(missing_ok=True)
    folder.mkdir()


@pytest.mark.anyio
async def test_model_keeps_serving_when_the_folder_cannot_be_listed(folder: Path) -> None:
    managed = Managed(folder, times=times(retire_after_s=0, rescan_s=7))
    (folder / "m.tflite").write_bytes(DIGITS)
    await managed.reconcile()
    assert managed.manager.troubles == []
    shutil.rmtree(folder)
    for replace_by, trouble in (nothing, "No such file"), (a_file, "Not a directory"):
        replace_by(folder)
        assert 0 < await managed.reconcile() <= 7
        assert f"cannot be listed: {trouble}" in managed.manager.troubles[0]
        assert managed.version() == 1
    folder_again(folder)
    (folder / "m.tflite").write_bytes(digits("2"))
    await managed.reconcile()
    assert managed.manager.troubles == []
    assert managed.version() == 2


@pytest.mark.anyio
async def test_bad_model_does_not_block_another(folder: Path) -> None:
    managed = Managed(folder)
    for name, content in {"a": b"no model", "b": DIGITS, "c": DIGITS[:2000]}.items():
        write_whole(folder / f"{name}.tflite", content)
    await managed.reconcile()
    assert sorted(managed.manager.served) == ["b"]
    assert [status.name for status in managed.manager.statuses if status.rejection] == ["a", "c"]


@pytest.mark.anyio
async def test_startup_waits_for_a_file_that_was_just_dropped(folder: Path) -> None:
    drop(folder, ONE)
    managed = Managed(folder, times=times(rest_s=0.2))
    await managed.start()
    assert managed.version() == 1


@pytest.mark.anyio
async def test_file_is_rejected_when_its_number_belongs_to_another_file(folder: Path) -> None:
    put(folder, 7, ONE)
    managed = await dropped(folder)
    put(folder, 7, TWO)
    await managed.reconcile()
    assert (managed.version(), managed.identity().sha256) == (7, hashlib.sha256(ONE).hexdigest())
    assert "Version 7 was already admitted with another file" in managed.reason()
    assert "such as 8" in managed.reason()
    put(folder, 8, TWO)
    await managed.reconcile()
    assert managed.version() == 8
    put(folder, 7, ONE)
    await managed.reconcile()
    assert (managed.version(), managed.reason()) == (8, "")


@pytest.mark.anyio
async def test_numbered_version_keeps_serving_when_its_file_is_touched_or_damaged(folder: Path) -> None:
    put(folder, 7, ONE)
    managed = await dropped(folder)
    put(folder, 8, TWO)
    await managed.reconcile()
    managed = await next_start(managed, times=times(rest_s=LONG_S))
    put(folder, 8, TWO)
    await managed.reconcile()
    assert managed.version() == 8
    managed = await next_start(managed)
    put(folder, 8, b"no model")
    await managed.reconcile()
    assert (managed.version(), "Version 8 was already admitted with another file" in managed.reason()) == (8, True)
    shutil.rmtree(folder / "m" / "8")
    await managed.reconcile()
    assert managed.version() == 7


@pytest.mark.anyio
async def test_note_exists_as_long_as_the_rejected_file(folder: Path) -> None:
    (folder / "gone.tflite.rejected.txt").write_text("from an earlier run")
    put(folder, 3, b"no model")
    managed = await dropped(folder)
    drop(folder, b"no model")
    await managed.reconcile()
    notes = [folder / "m.tflite.rejected.txt", folder / "m" / "3" / "model.tflite.rejected.txt"]
    assert all("not a .tflite model" in note.read_text() for note in notes)
    assert not (folder / "gone.tflite.rejected.txt").exists()
    drop(folder, DIGITS)
    await managed.reconcile()
    assert [note.exists() for note in notes] == [False, True]
    (folder / "m" / "3" / "model.tflite").unlink()
    await managed.reconcile()
    assert [note.exists() for note in notes] == [False, False]

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.models_on_disk import write_whole

from agent.models.folder import FolderWatch, ModelFolder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

LONG_S = 60.0


def listed(folder: Path) -> dict[str, list[tuple[str, int | None]]]:
    drops = ModelFolder(folder).list()
    return {name: [(str(drop.path.relative_to(folder)), drop.version) for drop in each] for name, each in drops.items()}


def fingerprint(folder: Path, name: str = "m") -> tuple[tuple[int, int, int], ...]:
    (drop,) = ModelFolder(folder).list()[name]
    return drop.fingerprint


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"model")


def test_files_of_both_layouts_are_listed_the_highest_version_first(tmp_path: Path) -> None:
    for file in ("a.tflite", "b.c.tflite", "a/2/model.tflite", "a/10/model.tflite", "a/007/model.tflite"):
        put(tmp_path / file)
    assert listed(tmp_path) == {
        "a": [("a/10/model.tflite", 10), ("a/007/model.tflite", 7), ("a/2/model.tflite", 2), ("a.tflite", None)],
        "b.c": [("b.c.tflite", None)],
    }


def test_drop_names_its_file_inside_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "a.tflite")
    put(tmp_path / "a" / "7" / "model.tflite")
    assert [drop.file for drop in ModelFolder(tmp_path).list()["a"]] == ["a/7/model.tflite", "a.tflite"]


def test_what_is_unfinished_or_no_plain_file_is_ignored(tmp_path: Path) -> None:
    for file in (
        ".hidden.tflite",
        "m.tflite~",
        "m.tflite.part",
        "m.tflite.tmp",
        "m.tflite.filepart",
        ".m.tflite.aXb3",
        "m.TFLITE",
        "m.keras",
        "tflite",
        "loose/model.tflite",
        "n/latest/model.tflite",
        "n/-1/model.tflite",
        "n/²/model.tflite",
        "n/1.tmp/model.tflite",
        "n/1/other.tflite",
        ".n/1/model.tflite",
        "n/2/model.tflite/model.tflite",
        "folder.tflite/1.txt",
    ):
        put(tmp_path / file)
    put(tmp_path.parent / "elsewhere.tflite")
    (tmp_path / "link.tflite").symlink_to(tmp_path.parent / "elsewhere.tflite")
    (tmp_path / "dangling.tflite").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo.tflite")
    assert listed(tmp_path) == {}


def test_folder_that_looks_like_a_file_can_still_hold_versions(tmp_path: Path) -> None:
    put(tmp_path / "m.tflite" / "1" / "model.tflite")
    assert listed(tmp_path) == {"m.tflite": [("m.tflite/1/model.tflite", 1)]}


def test_folder_that_is_missing_or_no_folder_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ModelFolder(tmp_path / "none").list()
    put(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        ModelFolder(tmp_path / "file").list()


def test_folder_inside_that_may_not_be_read_hides_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the lost+found of a disk of its own."""
    put(tmp_path / "m.tflite")
    put(tmp_path / "lost+found" / "1" / "model.tflite")
    scandir = os.scandir

    def refuse(path: Path) -> Iterator[os.DirEntry[str]]:  # root, who may run this, may read everything
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert listed(tmp_path) == {"m": [("m.tflite", None)]}


def test_every_change_of_a_file_changes_its_fingerprint(tmp_path: Path) -> None:
    path, seen = tmp_path / "m.tflite", set()
    write_whole(path, b"one")
    seen.add(fingerprint(tmp_path))
    write_whole(path, b"two")
    seen.add(fingerprint(tmp_path))
    old = tmp_path / "old"
    put(old)
    os.utime(old, (0, 0))
    shutil.copy2(old, path)
    assert path.stat().st_mtime == 0
    seen.add(fingerprint(tmp_path))
    with path.open("r+b") as file:
        file.write(b"MODEL")
    os.utime(path, (0, 0))
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 4
    assert fingerprint(tmp_path) in seen


@pytest.mark.parametrize("sidecar", ["m.txt", "m.yaml"])
def test_sidecars_belong_to_the_fingerprint(tmp_path: Path, sidecar: str) -> None:
    put(tmp_path / "m.tflite")
    without = fingerprint(tmp_path)
    put(tmp_path / sidecar)
    first = fingerprint(tmp_path)
    write_whole(tmp_path / sidecar, b"changed")
    assert len({without, first, fingerprint(tmp_path)}) == 3
    (tmp_path / sidecar).unlink()
    assert fingerprint(tmp_path) == without


def test_newest_change_counts_though_the_modification_time_is_old(tmp_path: Path) -> None:
    before_s = time.time()
    put(tmp_path / "m.tflite")
    os.utime(tmp_path / "m.tflite", (0, 0))
    (drop,) = ModelFolder(tmp_path).list()["m"]
    assert before_s - 1 < drop.changed_at_s < time.time() + 1


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[FolderWatch]:
    """A watch that has begun, with nothing waiting in it."""
    watch = FolderWatch(folder)
    try:
        await watch.wait(0.001)
        watch._changed.clear()
        yield watch
    finally:
        watch.close()


async def woken(watch: FolderWatch) -> bool:
    """Whether wait() ends long before its time-out."""
    begun_s = time.monotonic()
    await asyncio.wait_for(watch.wait(LONG_S), 10)
    return time.monotonic() - begun_s < 10


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda folder: put(folder / "m.tflite"),
    "move": lambda folder: write_whole(folder / "m.tflite", b"model"),
    "link": lambda folder: os.link(folder / "there.tflite", folder / "linked.tflite"),
    "remove": lambda folder: (folder / "there.tflite").unlink(),
    "deep": lambda folder: put(folder / "there" / "1" / "model.tflite"),
    "chmod": lambda folder: (folder / "there.tflite").chmod(0o600),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_wakes_the_waiter(tmp_path: Path, change: str) -> None:
    async def scenario() -> None:
        put(tmp_path / "there.tflite")
        (tmp_path / "there" / "1").mkdir(parents=True)
        async with watching(tmp_path) as watch:
            CHANGES[change](tmp_path)
            assert await woken(watch)

    asyncio.run(scenario())


def test_wait_ends_after_its_time_without_a_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watching(tmp_path) as watch:
            begun_s = time.monotonic()
            await watch.wait(0.05)
            assert 0.04 < time.monotonic() - begun_s < 5

    asyncio.run(scenario())


def test_cancellation_in_the_moment_of_a_change_is_not_lost(tmp_path: Path) -> None:
    """Or the service would not end."""

    async def scenario() -> None:
        async with watching(tmp_path) as watch:
            waiting = asyncio.create_task(watch.wait(LONG_S))
            while not watch._changed._waiters:  # noqa: ASYNC110  (nothing tells that somebody waits)
                await asyncio.sleep(0)
            watch._changed.set()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(scenario())


def test_reading_a_model_is_no_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        put(tmp_path / "m.tflite")
        async with watching(tmp_path) as watch:
            (tmp_path / "m.tflite").read_bytes()
            ModelFolder(tmp_path).list()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(watch._changed.wait(), 0.1)
            put(tmp_path / "m.tflite")
            assert await woken(watch)

    asyncio.run(scenario())


def test_folder_that_was_made_again_is_watched_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        async with watching(folder) as watch:
            folder.rmdir()
            assert await woken(watch)
            await watch.wait(0.001)  # as the manager does when it cannot list the folder
            folder.mkdir()  # often with the inode of the one before
            await watch.wait(0.001)
            watch._changed.clear()
            put(folder / "m.tflite")
            assert await woken(watch)

    asyncio.run(scenario())


def test_folder_that_was_made_again_before_anybody_looked_is_watched_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        async with watching(folder) as watch:
            ended = watch._observer
            folder.rmdir()
            folder.mkdir()  # ext4 gives it the inode of the one before

            async def begin_anew() -> None:
                while watch._observer is ended:
                    await watch.wait(0.01)

            await asyncio.wait_for(begin_anew(), 10)
            watch._changed.clear()
            put(folder / "m.tflite")
            assert await woken(watch)

    asyncio.run(scenario())


def test_folder_that_was_swapped_at_once_is_watched_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        async with watching(folder) as watch:
            folder.rename(tmp_path / "old")
            folder.mkdir()
            await watch.wait(0.001)
            watch._changed.clear()
            put(folder / "m.tflite")
            assert await woken(watch)

    asyncio.run(scenario())


def test_folder_that_appears_later_is_watched_from_then_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "models"
        async with watching(folder) as watch:
            folder.mkdir()
            await watch.wait(0.001)
            watch._changed.clear()
            put(folder / "m.tflite")
            assert await woken(watch)

    asyncio.run(scenario())


def test_time_takes_the_place_of_events_where_no_watch_is_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with watching(tmp_path) as watch:
            put(tmp_path / "m.tflite")
            await watch.wait(0.01)
            assert not watch._changed.is_set()

    monkeypatch.setattr("agent.models.folder.Observer.start", no_watches_left)
    asyncio.run(scenario())


def no_watches_left(_: object) -> None:
    raise OSError(28, "inotify watch limit reached")


def test_no_watch_left_costs_one_attempt_a_folder_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def held() -> tuple[int, int]:
        own = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio")]  # of its pool
        return len([*Path("/proc/self/fd").iterdir()]), len(own)

    async def scenario() -> None:
        await asyncio.to_thread(held)  # the loop's own thread is there before
        before = held()
        watch = FolderWatch(tmp_path)
        for _ in range(5):
            await watch.wait(0.001)
        assert held() == before
        assert caplog.text.count("sends no events (inotify watch limit reached)") == 1
        watch.close()

    monkeypatch.setattr("agent.models.folder.Observer.start", no_watches_left)
    asyncio.run(scenario())


def test_no_inotify_instance_left_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        watch = FolderWatch(tmp_path)
        await watch.wait(0.001)
        watch.close()

    monkeypatch.setattr("agent.models.folder.Observer", lambda: no_watches_left(None))
    asyncio.run(scenario())


def test_folder_that_takes_the_place_of_one_without_events_is_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.models.folder.Observer.start", no_watches_left)
            watch = FolderWatch(folder)
        folder.rmdir()
        await watch.wait(0.001)
        folder.mkdir()
        await watch.wait(0.001)
        watch._changed.clear()
        put(folder / "m.tflite")
        assert await woken(watch)
        watch.close()

    asyncio.run(scenario())


def test_name_that_is_no_unicode_is_ignored_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "m.tflite")
    put(tmp_path / os.fsdecode(b"caf\xe9.tflite"))
    put(tmp_path / os.fsdecode(b"caf\xe8") / "1" / "model.tflite")
    folder = ModelFolder(tmp_path)
    for _ in range(3):
        assert list(folder.list()) == ["m"]
    assert [record.getMessage() for record in caplog.records] == [
        rf"The model 'caf\udc{byte}' is ignored: its name is not valid UTF-8. Rename it." for byte in ("e8", "e9")
    ]


def test_look_that_outlives_its_watch_leaves_no_observer_behind(tmp_path: Path) -> None:
    """A cancelled wait() cannot stop its thread, which may be about to watch a folder made anew."""

    async def scenario() -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        watch = FolderWatch(folder)
        watch.close()
        watch._watched = None  # as the thread sees it that looked before the end
        assert await asyncio.to_thread(watch._watch_current_folder)
        assert watch._observer is None

    before = threading.active_count()
    asyncio.run(scenario())
    assert threading.active_count() == before


@pytest.mark.parametrize("proof", ["m.tflite.sha256", "m.tflite.minisig"])
def test_checksum_and_signature_belong_to_the_fingerprint_and_prove_the_file(tmp_path: Path, proof: str) -> None:
    put(tmp_path / "m.tflite")
    without = fingerprint(tmp_path)
    (bare,) = ModelFolder(tmp_path).list()["m"]
    assert not bare.has_proof
    (tmp_path / proof).symlink_to("nowhere")
    assert not bare.has_proof
    (tmp_path / proof).unlink()
    put(tmp_path / proof)
    assert fingerprint(tmp_path) != without
    assert bare.has_changed()
    (proven,) = ModelFolder(tmp_path).list()["m"]
    assert proven.has_proof


def test_note_is_written_once_and_renewed_when_its_reason_changes(tmp_path: Path) -> None:
    folder, note = ModelFolder(tmp_path), tmp_path / "m.tflite.rejected.txt"
    folder.write_notes({tmp_path / "m.tflite": "It is bad."})
    written = note.stat()
    folder.write_notes({tmp_path / "m.tflite": "It is bad."})
    assert note.stat() == written
    folder.write_notes({tmp_path / "m.tflite": "It is worse \udcff."})
    assert note.read_text() == "It is worse ?.\n"
    folder.write_notes({})
    assert not note.exists()


def test_note_is_never_written_through_a_link(tmp_path: Path) -> None:
    models, precious = tmp_path / "models", tmp_path / "precious"
    models.mkdir()
    precious.write_text("precious")
    (models / "m.tflite.rejected.txt").symlink_to(precious)
    ModelFolder(models).write_notes({models / "m.tflite": "It is bad."})
    assert (models / "m.tflite.rejected.txt").read_text() == "It is bad.\n"
    assert precious.read_text() == "precious"


def test_folder_that_takes_no_notes_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ModelFolder(tmp_path)
    (tmp_path / "m.tflite.rejected.txt" / "in the way").mkdir(parents=True)
    for _ in range(2):
        folder.write_notes({tmp_path / "m.tflite": "It is bad."})
    assert caplog.text.count("cannot be written into") == 1
    ModelFolder(tmp_path / "none").write_notes({})


def test_nothing_behind_a_link_is_listed_or_noted(tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    put(elsewhere / "7" / "model.tflite")
    put(elsewhere / "7" / "model.tflite.rejected.txt")
    (models / "n").mkdir(parents=True)
    (models / "m").symlink_to(elsewhere)
    (models / "n" / "7").symlink_to(elsewhere / "7")
    folder = ModelFolder(models)
    assert folder.list() == {}
    folder.write_notes({})
    assert (elsewhere / "7" / "model.tflite.rejected.txt").exists()

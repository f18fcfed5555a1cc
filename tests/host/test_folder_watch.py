"""Which changes in the drop folder end a wait."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from agents.managed import LONG_S
from agents.models_on_disk import write_whole
from watchdog.observers import Observer

from agent.host.folder_watch import FolderWatch
from agent.models.folder import ModelFolder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from watchdog.observers.api import BaseObserver


class Awaited(asyncio.Event):
    """An event that reports when a task waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_awaited = asyncio.Event()

    async def wait(self) -> bool:  # type: ignore[override]  # typeshed says Literal[True]
        self.is_awaited.set()
        return await super().wait()


class Watching:
    """A watch of `folder`, and the event that it sets."""

    def __init__(
        self,
        folder: Path,
        make_observer: Callable[[], BaseObserver] = Observer,
        has_name: Callable[[str], bool] | None = None,
    ) -> None:
        self.changed = Awaited()
        self.watch = FolderWatch(folder, self.changed, has_name=has_name, make_observer=make_observer)

    async def look(self) -> None:
        """As the manager does repeatedly; clears earlier changes."""
        await self.watch.wait(0.001)
        self.changed.clear()

    async def is_woken(self) -> bool:
        """Whether wait() ends long before its timeout."""
        begun_s = time.monotonic()
        await asyncio.wait_for(self.watch.wait(LONG_S), 10)
        return time.monotonic() - begun_s < 10


@asynccontextmanager
async def watching(folder: Path, has_name: Callable[[str], bool] | None = None) -> AsyncIterator[Watching]:
    """A watch that has started and has seen no change yet."""
    watching = Watching(folder, has_name=has_name)
    try:
        await watching.look()
        yield watching
    finally:
        watching.watch.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.mark.anyio
async def test_a_folder_created_while_the_watch_starts_is_watched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library watchdog finds it when it lists the folder, and again in the kernel's message."""
    walk = os.walk

    def create_and_walk(path: bytes, **options: Any) -> object:
        if path == bytes(folder):
            (folder / "new").mkdir()
        return walk(path, **options)

    monkeypatch.setattr(os, "walk", create_and_walk)
    async with watching(folder) as watched:
        with anyio.move_on_after(1.5):  # unless look() has cleared the event of the new folder already
            await watched.changed.wait()
        watched.changed.clear()
        write_whole(folder / "new" / "model.tflite", b"new")
        assert await watched.is_woken()


def make(folder: Path) -> None:
    folder.mkdir()


def remove(folder: Path) -> None:
    folder.rmdir()


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"model")


def none_left() -> BaseObserver:
    """As on a machine with no inotify instances left."""
    raise OSError(28, "inotify watch limit reached")


class Limited(Observer):  # type: ignore[misc, valid-type]  # the class depends on the platform
    """As on a machine with no inotify watches left."""

    def start(self) -> None:
        raise OSError(28, "inotify watch limit reached")


def swap_data(folder: Path) -> None:
    """As the kubelet updates a mounted ConfigMap."""
    (folder / "..data_tmp").symlink_to("there")
    (folder / "..data_tmp").rename(folder / "..data")


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda folder: put(folder / "m.tflite"),
    "move": lambda folder: write_whole(folder / "m.tflite", b"model"),
    "link": lambda folder: (folder / "linked.tflite").hardlink_to(folder / "there.tflite"),
    "remove": lambda folder: (folder / "there.tflite").unlink(),
    "deep": lambda folder: put(folder / "there" / "1" / "model.tflite"),
    "config map": swap_data,
    "chmod": lambda folder: (folder / "there.tflite").chmod(0o600),
}


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES)
async def test_wait_ends_at_a_change(folder: Path, change: str) -> None:
    put(folder / "there.tflite")
    (folder / "there" / "1").mkdir(parents=True)
    async with watching(folder) as watched:
        CHANGES[change](folder)
        assert await watched.is_woken()


@pytest.mark.anyio
async def test_wait_ends_after_its_timeout_without_a_change(folder: Path) -> None:
    async with watching(folder) as watched:
        begun_s = time.monotonic()
        await watched.watch.wait(0.05)
        assert 0.04 < time.monotonic() - begun_s < 5


@pytest.mark.anyio
async def test_wait_can_be_canceled_at_the_moment_of_a_change(folder: Path) -> None:
    """Otherwise the service would not stop."""
    async with watching(folder) as watched:
        watched.changed.is_awaited.clear()
        waiting = asyncio.create_task(watched.watch.wait(LONG_S))
        await watched.changed.is_awaited.wait()
        watched.changed.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.anyio
async def test_reading_a_model_does_not_count_as_a_change(folder: Path) -> None:
    put(folder / "m.tflite")
    async with watching(folder) as watched:
        (folder / "m.tflite").read_bytes()
        ModelFolder(folder).list()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(watched.changed.wait(), 0.1)
        put(folder / "m.tflite")
        assert await watched.is_woken()


@pytest.mark.anyio
async def test_folder_is_watched_again_after_it_was_created_again(folder: Path) -> None:
    async with watching(folder) as watched:
        remove(folder)
        assert await watched.is_woken()
        await watched.watch.wait(0.001)  # as the manager does when it cannot list the folder
        make(folder)  # often with the inode of the previous folder
        await watched.look()
        put(folder / "m.tflite")
        assert await watched.is_woken()


@pytest.mark.anyio
async def test_folder_is_watched_again_when_it_was_created_again_between_two_looks(folder: Path) -> None:
    async with watching(folder) as watched:
        remove(folder)
        make(folder)  # ext4 gives it the inode of the previous folder

        async def wake() -> None:
            while True:  # the old watch ends in another thread
                await watched.look()
                put(folder / "m.tflite")
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(watched.changed.wait(), 0.1)
                    return

        await asyncio.wait_for(wake(), 10)


@pytest.mark.anyio
async def test_folder_is_watched_again_after_it_was_replaced_by_another(folder: Path) -> None:
    async with watching(folder) as watched:
        shutil.move(folder, folder.with_name("old"))
        make(folder)
        await watched.look()
        put(folder / "m.tflite")
        assert await watched.is_woken()


@pytest.mark.anyio
async def test_folder_that_is_created_later_is_watched(folder: Path) -> None:
    remove(folder)
    async with watching(folder) as watched:
        make(folder)
        await watched.look()
        put(folder / "m.tflite")
        assert await watched.is_woken()


@pytest.mark.anyio
async def test_wait_ends_after_its_timeout_when_no_inotify_watch_is_left(folder: Path) -> None:
    watched = Watching(folder, Limited)
    put(folder / "m.tflite")
    await watched.watch.wait(0.01)
    assert not watched.changed.is_set()
    watched.watch.close()


@pytest.mark.anyio
async def test_failed_watch_is_tried_once_per_folder_and_releases_its_resources(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def resources() -> tuple[int, int]:
        """Open descriptors, and threads except those of the loop's pool."""
        threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio")]
        return len([*Path("/proc/self/fd").iterdir()]), len(threads)

    await asyncio.to_thread(resources)  # starts the loop's thread before counting
    before = resources()
    watched = Watching(folder, Limited)
    for _ in range(5):
        await watched.watch.wait(0.001)
    assert resources() == before
    assert caplog.text.count("sends no events (inotify watch limit reached)") == 1
    watched.watch.close()


@pytest.mark.anyio
async def test_wait_ends_after_its_timeout_when_no_inotify_instance_is_left(folder: Path) -> None:
    watched = Watching(folder, none_left)
    await watched.watch.wait(0.001)
    watched.watch.close()


@pytest.mark.anyio
async def test_new_folder_is_watched_when_the_previous_one_sent_no_events(folder: Path) -> None:
    kinds = [Observer, Limited]

    def make_observer() -> BaseObserver:
        return kinds.pop()()

    watched = Watching(folder, make_observer)
    await watched.look()
    remove(folder)
    await watched.watch.wait(0.001)
    make(folder)
    await watched.look()
    put(folder / "m.tflite")
    assert await watched.is_woken()
    watched.watch.close()


@pytest.mark.anyio
async def test_observer_started_after_close_is_stopped(folder: Path) -> None:
    """A canceled wait() cannot stop its thread, which may be about to watch a folder that was created again."""
    is_starting, may_start, has_started = threading.Event(), threading.Event(), threading.Event()
    observers: list[BaseObserver] = []

    class Slow(Observer):  # type: ignore[misc, valid-type]
        def start(self) -> None:
            observers.append(self)
            if len(observers) == 2:
                is_starting.set()
                may_start.wait(10)
            super().start()
            if len(observers) == 2:
                has_started.set()

    watched = Watching(folder, Slow)
    await watched.look()
    shutil.move(folder, folder.with_name("old"))
    make(folder)
    waiting = asyncio.create_task(watched.watch.wait(LONG_S))
    assert await asyncio.to_thread(is_starting.wait, 10)
    waiting.cancel()
    watched.watch.close()
    may_start.set()
    assert await asyncio.to_thread(has_started.wait, 10)
    for observer in observers:
        await asyncio.to_thread(observer.join, 10)
    assert not any(observer.is_alive() for observer in observers)


@pytest.mark.anyio
async def test_only_files_in_the_folder_with_a_wanted_name_count_if_names_are_given(folder: Path) -> None:
    (folder / "inner").mkdir()
    async with watching(folder, has_name=lambda name: name.endswith(".png")) as watched:
        put(folder / "a.json")
        put(folder / "inner" / "a.png")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(watched.changed.wait(), 0.7)  # watchdog holds an event back for 0.5 s
        (folder / "a.json").rename(folder / "a.png")
        assert await watched.is_woken()

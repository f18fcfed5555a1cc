"""The manager follows its folder: files are added, changed and removed while it runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from typing import TYPE_CHECKING

import cv2
import pytest
from agents.managed import (
    Managed,
    following,
    times,
)
from agents.models_on_disk import (
    BARE_DIGITS,
    DIGIT_LABELS,
    DIGITS,
    LETTERS,
    digits,
    photo_of_3,
    sha256,
    write_whole,
)

from agent.classification import Spot
from agent.errors import ModelNotFoundError
from agent.frame import Frame
from agent.host.folder_watch import FolderWatch
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.options import Options
from agent.inference.results import Results
from agent.listeners import Listener
from agent.models.folder import ModelFolder
from agent.status import ModelStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from watchdog.observers.api import BaseObserver

    from agent.classification import Result
    from agent.models.folder import Drop


def arrive_by_write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def arrive_by_rename(path: Path, content: bytes) -> None:
    write_whole(path, content)


def arrive_by_copy_with_its_old_time(path: Path, content: bytes) -> None:
    original = path.parent.parent / "original"
    original.write_bytes(content)
    os.utime(original, (1e9, 1e9))
    shutil.copy2(original, path)


def arrive_by_hard_link(path: Path, content: bytes) -> None:
    original = path.parent.parent / "original"
    original.unlink(missing_ok=True)
    original.write_bytes(content)
    path.unlink(missing_ok=True)
    os.link(original, path)


def arrive_piece_by_piece(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        for start in range(0, len(content), 4096):
            file.write(content[start : start + 4096])
            file.flush()


ARRIVALS = [
    arrive_by_write,
    arrive_by_rename,
    arrive_by_copy_with_its_old_time,
    arrive_by_hard_link,
    arrive_piece_by_piece,
]


@pytest.mark.anyio
@pytest.mark.parametrize("arrive", ARRIVALS)
async def test_dropped_and_replaced_models_serve_without_waiting_for_a_rescan(
    folder: Path, arrive: Callable[[Path, bytes], None]
) -> None:
    managed = Managed(folder, times=times(rest_s=0.05))
    async with following(managed):
        arrive(folder / "m.tflite", digits("1"))
        await managed.until(lambda: managed.version() == 1)
        assert managed.identity().sha256 == sha256(digits("1"))
        assert managed.label() == "3"
        arrive(folder / "m.tflite", digits("2", labels=LETTERS))
        await managed.until(lambda: managed.version() == 2)
        assert managed.identity().sha256 == sha256(digits("2", labels=LETTERS))
        assert managed.label() == "d"


@pytest.mark.anyio
async def test_unchanged_folder_is_listed_rarely(folder: Path) -> None:
    looks = []

    class Counted(ModelFolder):
        def list(self) -> dict[str, list[Drop]]:
            looks.append(1)
            return super().list()

    (folder / "m.tflite").write_bytes(DIGITS)
    managed = Managed(folder, models=Counted(folder))
    async with following(managed):
        await managed.until(lambda: managed.version() == 1 and managed.status().candidate is None)
        await asyncio.sleep(0.2)
    assert len(looks) < 8, "a look at the folder must not trigger the next one"


@pytest.mark.anyio
async def test_model_in_the_folder_at_startup_serves(folder: Path) -> None:
    (folder / "m.tflite").write_bytes(DIGITS)
    managed = Managed(folder)
    before_ns = time.time_ns()
    async with following(managed):
        await managed.until(lambda: managed.version() == 1 and managed.status().candidate is None)
    status = managed.status()
    assert (status.serving, status.candidate, status.rejection) == (managed.identity(), None, None)
    assert before_ns <= (status.since_ns or 0) <= time.time_ns()
    assert managed.loads == [("m", "admitted")]
    steps = [(each.candidate, each.trying, each.serving is not None) for each in managed.statuses]
    assert list(dict.fromkeys(steps)) == [
        ("m.tflite", False, False),
        ("m.tflite", True, False),
        ("m.tflite", True, True),
        (None, False, True),
    ]


@pytest.mark.anyio
async def test_model_is_admitted_when_its_sidecar_arrives_later(folder: Path) -> None:
    managed = Managed(folder, times=times(rest_s=0.05))
    async with following(managed):
        write_whole(folder / "m.tflite", BARE_DIGITS)
        await managed.until(lambda: managed.reason() != "" if managed.statuses else False)
        assert managed.version() is None
        (folder / "m.txt").write_text("\n".join(LETTERS))
        await managed.until(lambda: managed.version() == 1)
        assert managed.label() == "d"
        assert managed.status().rejection is None


@pytest.mark.anyio
async def test_removed_model_is_retired_after_the_waiting_time(folder: Path) -> None:
    managed = Managed(folder, times=times(retire_after_s=0.2))
    (folder / "m.tflite").write_bytes(DIGITS)
    async with following(managed):
        await managed.until(lambda: managed.version() == 1)
        (folder / "m.tflite").unlink()
        gone_s = time.monotonic()
        await managed.until(lambda: managed.version() is None)
        assert time.monotonic() - gone_s >= 0.2
        assert (managed.manager.statuses, managed.statuses[-1]) == ([], ModelStatus("m"))
        with pytest.raises(ModelNotFoundError, match=r"Drop m\.tflite into .*Served: none"):
            managed.manager.get("m")
        write_whole(folder / "m.tflite", DIGITS)
        await managed.until(lambda: managed.version() == 2)


@pytest.mark.anyio
async def test_file_that_is_still_written_is_not_examined(folder: Path) -> None:
    managed = Managed(folder, times=times(rest_s=0.2))
    async with following(managed):
        with (folder / "m.tflite").open("wb") as file:
            for start in range(0, len(DIGITS), len(DIGITS) // 8):
                file.write(DIGITS[start : start + len(DIGITS) // 8])
                file.flush()
                await asyncio.sleep(0.05)  # a slow copy: it takes longer than rest_s in total
        await managed.until(lambda: managed.version() == 1)
        assert managed.loads == [("m", "admitted")]


def make_again(folder: Path) -> None:
    folder.mkdir()


@pytest.mark.anyio
async def test_folder_that_is_deleted_and_created_again_is_followed_again(folder: Path) -> None:
    managed = Managed(folder, times=times(rescan_s=0.05))
    (folder / "m.tflite").write_bytes(DIGITS)
    async with following(managed):
        await managed.until(lambda: managed.version() == 1)
        shutil.rmtree(folder)
        make_again(folder)
        (folder / "m.tflite").write_bytes(digits("2"))
        await managed.until(lambda: managed.version() == 2)
        (folder / "m.tflite").write_bytes(digits("3"))
        await managed.until(lambda: managed.version() == 3)


@pytest.mark.anyio
async def test_rescan_finds_changes_when_the_file_system_sends_no_events(folder: Path) -> None:
    """As on NFS, SMB and some bind mounts."""

    def none_left() -> BaseObserver:
        raise OSError(28, "inotify watch limit reached")

    class Silent(ModelFolder):
        def watch(self, changed: asyncio.Event) -> FolderWatch:
            return FolderWatch(self.path, changed, make_observer=none_left)

    managed = Managed(folder, models=Silent(folder), times=times(rescan_s=0.05))
    async with following(managed):
        (folder / "m.tflite").write_bytes(DIGITS)
        await managed.until(lambda: managed.version() == 1)
        write_whole(folder / "m.tflite", digits("2"))
        await managed.until(lambda: managed.version() == 2)


@pytest.mark.anyio
@pytest.mark.parametrize("replace", [arrive_by_write, arrive_by_rename])
async def test_result_names_the_version_that_computed_it_while_models_are_swapped(
    folder: Path, replace: Callable[[Path, bytes], None]
) -> None:
    """Each result has the labels and the hash of one file while others are copied over it; serving has no gap."""
    versions = {n: digits(str(n), labels=[f"digit {digit} of {n}" for digit in DIGIT_LABELS]) for n in range(1, 7)}
    label_of = {sha256(content): f"digit 3 of {n}" for n, content in versions.items()}
    frame = Frame(photo_of_3(), captured_ns=time.monotonic_ns())
    jpeg = cv2.imencode(".jpg", frame.image().pixels)[1].tobytes()
    results: list[Result] = []

    managed = Managed(folder, times=times(rest_s=0.02), workers=2)
    engine = InferenceEngine(workers=2, max_waiting=2, max_pixels=1 << 26)
    data_plane = DataPlane(engine=engine, models=managed.manager, results=Results(device="d"), listener=Listener())

    async def upload() -> None:
        while True:
            results.append(await data_plane.classify(jpeg, Options("m", max_results=1), arrived_ns=0))

    async def watch() -> None:
        while True:
            results.append(
                (await data_plane.classify_frame(frame, Options("m", max_results=1), spot=Spot("camera")))[0]
            )

    replace(folder / "m.tflite", versions[1])
    async with following(managed):
        await managed.until(lambda: managed.version() is not None)
        callers = [asyncio.create_task(each()) for each in (upload, upload, watch)]
        for content in versions.values():
            replace(folder / "m.tflite", content)
            await managed.until(lambda content=content: managed.identity().sha256 == sha256(content))  # type: ignore[misc]
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        assert all(caller.cancelled() for caller in callers), "a call failed during a swap"
    await asyncio.to_thread(engine.close)
    assert len(results) > 20
    for result in results:
        classification = result.classification
        assert classification.categories[0].label == label_of[classification.model.sha256]
    made_by = [result.classification.model.version for result in results]
    assert len(set(made_by)) >= 5

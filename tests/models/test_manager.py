from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from typing import TYPE_CHECKING

import cv2
import pytest
from agents.managed import LONG_S, Managed, TrialHere, following
from agents.models_on_disk import (
    BARE_DIGITS,
    DIGIT_LABELS,
    DIGITS,
    digits,
    photo_of_3,
    with_free_height,
    write_whole,
)

from agent.errors import ModelNotFoundError
from agent.image import Frame
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.options import Options
from agent.inference.results import Results
from agent.listeners import Listener
from agent.models.folder import FolderWatch
from agent.status import ModelStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.classification import Result
    from agent.model_file.settings import ModelSettings
    from agent.models.store import Copy
    from agent.models.trial import TrialReport

OTHER_LABELS = tuple("abcdefghij")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.mark.parametrize("arrive", ARRIVALS)
def test_dropped_and_replaced_models_serve_without_waiting_for_a_rescan(
    folder: Path, arrive: Callable[[Path, bytes], None]
) -> None:
    async def scenario() -> None:
        managed = Managed(folder, settle_s=0.05)
        async with following(managed):
            arrive(folder / "m.tflite", digits("1"))
            await managed.until(lambda: managed.version() == 1)
            assert managed.identity().sha256 == sha256(digits("1"))
            assert managed.label() == "3"
            arrive(folder / "m.tflite", digits("2", labels=OTHER_LABELS))
            await managed.until(lambda: managed.version() == 2)
            assert managed.identity().sha256 == sha256(digits("2", labels=OTHER_LABELS))
            assert managed.label() == "d"

    asyncio.run(scenario())


def test_a_folder_in_which_nothing_happens_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    async def scenario() -> None:
        (folder / "m.tflite").write_bytes(DIGITS)
        managed = Managed(folder)
        reconcile = managed.manager.reconcile

        async def counted() -> float:
            looks.append(1)
            return await reconcile()

        monkeypatch.setattr(managed.manager, "reconcile", counted)
        async with following(managed):
            await managed.until(lambda: managed.version() == 1 and managed.status().candidate is None)
            await asyncio.sleep(0.2)

    asyncio.run(scenario())
    assert len(looks) < 8, "what a look does must not call for the next one"


def test_model_that_is_there_at_the_start_serves(folder: Path) -> None:
    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_same_bytes_again_keep_the_version(folder: Path) -> None:
    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_unchanged_folder_loads_nothing_again(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder)
        write_whole(folder / "m.tflite", DIGITS)
        write_whole(folder / "bad.tflite", b"no model")
        for _ in range(3):
            await managed.reconcile()
        assert managed.loads == [("bad", "rejected"), ("m", "admitted")]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (DIGITS[: len(DIGITS) * 99 // 100], "damaged"),
        (b"", "empty"),
        (b"<html>", "not a .tflite model"),
        (with_free_height(), "leaves its input size open"),
        (BARE_DIGITS, "names no labels for its 10 outputs"),
    ],
)
def test_bad_candidate_changes_only_the_status(folder: Path, content: bytes, words: str) -> None:
    async def scenario() -> None:
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

    asyncio.run(scenario())


@pytest.mark.parametrize("repaired", [DIGITS, digits("2")])
def test_repaired_file_clears_the_rejection(folder: Path, repaired: bytes) -> None:
    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_sidecar_that_arrives_later_admits_the_model(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, settle_s=0.05)
        async with following(managed):
            write_whole(folder / "m.tflite", BARE_DIGITS)
            await managed.until(lambda: managed.reason() != "" if managed.statuses else False)
            assert managed.version() is None
            (folder / "m.txt").write_text("\n".join(OTHER_LABELS))
            await managed.until(lambda: managed.version() == 1)
            assert managed.label() == "d"
            assert managed.status().rejection is None

    asyncio.run(scenario())


def test_sidecar_that_changes_makes_another_version_of_the_same_bytes(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder)
        write_whole(folder / "m.tflite", DIGITS)
        await managed.reconcile()
        (folder / "m.txt").write_text("\n".join(OTHER_LABELS))
        await managed.reconcile()
        assert (managed.version(), managed.label()) == (2, "d")
        (folder / "m.yaml").write_text("maen: 1\n")
        await managed.reconcile()
        assert (managed.version(), managed.label()) == (2, "d")
        assert "unknown key 'maen'" in managed.reason()
        (folder / "m.yaml").unlink()
        await managed.reconcile()
        assert (managed.version(), managed.status().rejection) == (2, None)

    asyncio.run(scenario())


def test_removed_model_is_retired_after_its_time(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, retire_after_s=0.2)
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

    asyncio.run(scenario())


def test_removing_before_copying_leaves_no_gap(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, retire_after_s=LONG_S)
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

    asyncio.run(scenario())


def test_removing_a_rejected_file_forgets_the_rejection(folder: Path) -> None:
    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_file_that_goes_before_it_has_settled_is_forgotten(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, settle_s=30)
        (folder / "m.tflite").write_bytes(DIGITS)
        await managed.reconcile()
        (folder / "m.tflite").unlink()
        await managed.reconcile()
        assert managed.statuses == [ModelStatus("m", candidate="m.tflite"), ModelStatus("m")]
        assert managed.manager.statuses == []

    asyncio.run(scenario())


def test_candidate_that_goes_before_it_has_settled_leaves_what_serves(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder)
        write_whole(folder / "m.tflite", DIGITS)
        await managed.reconcile()
        managed.manager._settle_s = 30
        (folder / "m" / "7").mkdir(parents=True)
        (folder / "m" / "7" / "model.tflite").write_bytes(DIGITS)
        await managed.reconcile()
        assert (managed.status().candidate, managed.version()) == ("m/7/model.tflite", 1)
        shutil.rmtree(folder / "m")
        await managed.reconcile()
        assert (managed.status().candidate, managed.version()) == (None, 1)
        write_whole(folder / "m.tflite", digits("2"))
        await managed.reconcile()
        assert managed.status().candidate == "m.tflite"
        (folder / "m.tflite").unlink()
        await managed.reconcile()
        assert (managed.status().candidate, managed.version()) == (None, 1)

    asyncio.run(scenario())


def test_model_on_its_way_is_said_to_be_loading(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, settle_s=30)
        for name in ("m", "n"):
            (folder / f"{name}.tflite").write_bytes(DIGITS)
        await managed.reconcile()
        assert [status.candidate for status in managed.manager.statuses] == ["m.tflite", "n.tflite"]
        for name in ("m", "n"):
            with pytest.raises(ModelNotFoundError, match=rf"^Model {name} is being loaded. Try again in a second.$"):
                managed.manager.get(name)
        with pytest.raises(ModelNotFoundError, match=r"^Model m is being loaded"):
            managed.manager.get(None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error", [MemoryError(), ValueError("Exceeds the limit\udcff"), KeyError("x"), OSError(5, "I/O")]
)
def test_whatever_admission_stumbles_over_is_a_rejection(
    folder: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Stumbling(TrialHere):
        def run(self, path: Path, overrides: ModelSettings) -> TrialReport:
            if self.runs:
                return super().run(path, overrides)
            self.runs.append(path)
            raise error

    async def scenario() -> None:
        managed = Managed(folder, trial=Stumbling())
        for name in ("m", "n"):
            write_whole(folder / f"{name}.tflite", DIGITS)
        await managed.reconcile()
        assert managed.reason().encode().startswith(f"The file cannot be loaded ({type(error).__name__}".encode())
        assert managed.version("n") == 1
        assert "Traceback" in caplog.text

    asyncio.run(scenario())


def test_labels_numbered_in_thousands_of_digits_reject_only_their_model(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder)
        (folder / "m.txt").write_text("9" * 5000 + " cat\n")
        write_whole(folder / "m.tflite", DIGITS)
        await managed.reconcile()
        assert "There are 1 labels for 10 outputs" in managed.reason()

    asyncio.run(scenario())


def test_first_name_serves_who_names_none(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder)
        with pytest.raises(ModelNotFoundError, match=r"No model is served. Drop a \.tflite file into"):
            managed.manager.get(None)
        for name in ("b", "a"):
            write_whole(folder / f"{name}.tflite", digits(name))
        await managed.reconcile()
        assert managed.manager.get(None).identity.name == "a"
        assert sorted(managed.manager.served) == ["a", "b"]
        with pytest.raises(ModelNotFoundError, match="Model a does not serve 9 now"):
            managed.manager.get(None, "9")
        with pytest.raises(ModelNotFoundError, match=r"Drop c\.tflite into .*Served: a, b"):
            managed.manager.get("c")

    asyncio.run(scenario())


def test_highest_version_serves_and_a_lower_one_when_it_is_bad_or_gone(folder: Path) -> None:
    def put(version: int, content: bytes) -> None:
        (folder / "m" / str(version)).mkdir(parents=True)
        write_whole(folder / "m" / str(version) / "model.tflite", content)

    async def scenario() -> None:
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
        put(12, digits("9"))  # the same bytes: still the version that the folder states
        await managed.reconcile()
        assert (managed.version(), managed.identity().sha256) == (12, sha256(digits("9")))
        put(8, digits("8"))
        await managed.reconcile()
        assert managed.version() == 12

    asyncio.run(scenario())


def test_ignored_names_are_never_looked_at(folder: Path) -> None:
    async def scenario() -> None:
        for name in (".m.tflite", "m.tflite~", "m.tflite.part", "m.tflite.tmp", "m.tflite.filepart"):
            (folder / name).write_bytes(DIGITS)
        (folder / "link.tflite").symlink_to(folder / ".m.tflite")
        (folder / "folder.tflite").mkdir()
        os.mkfifo(folder / "fifo.tflite")
        managed = Managed(folder)
        assert await managed.reconcile() == LONG_S
        assert (managed.manager.statuses, managed.statuses, managed.loads) == ([], [], [])

    asyncio.run(scenario())


def test_file_is_not_read_before_it_has_settled(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, settle_s=30)
        (folder / "m.tflite").write_bytes(DIGITS)
        assert 25 < await managed.reconcile() <= 30
        assert managed.loads == []

    asyncio.run(scenario())


@pytest.mark.parametrize("first", [DIGITS, b"half a model"])
def test_file_that_changes_while_it_is_read_is_read_again(folder: Path, first: bytes) -> None:
    async def scenario() -> None:
        managed = Managed(folder)
        put = managed.store.put

        def overtaken(source: Path) -> Copy:
            copy = put(source)
            if source.read_bytes() == first:
                write_whole(source, digits("2"))
            return copy

        managed.store.put = overtaken  # type: ignore[method-assign]
        write_whole(folder / "m.tflite", first)
        assert await managed.reconcile() == 0
        assert (managed.version(), managed.status().rejection, managed.status().candidate) == (None, None, "m.tflite")
        assert managed.loads == []
        await managed.reconcile()
        assert managed.identity().sha256 == sha256(digits("2"))

    asyncio.run(scenario())


def test_writing_on_starts_the_settling_anew(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, settle_s=0.2)
        async with following(managed):
            with (folder / "m.tflite").open("wb") as file:
                for start in range(0, len(DIGITS), len(DIGITS) // 8):
                    file.write(DIGITS[start : start + len(DIGITS) // 8])
                    file.flush()
                    await asyncio.sleep(0.05)  # a slow upload: longer than it takes to settle, in all
            await managed.until(lambda: managed.version() == 1)
            assert managed.loads == [("m", "admitted")]

    asyncio.run(scenario())


def nothing(_: Path) -> None: ...


def a_file(folder: Path) -> None:
    folder.write_bytes(b"a file in its place")


def folder_again(folder: Path) -> None:
    folder.unlink(missing_ok=True)
    folder.mkdir()


def test_folder_that_is_no_folder_is_reported_and_what_serves_stays(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, retire_after_s=0, rescan_s=7)
        (folder / "m.tflite").write_bytes(DIGITS)
        await managed.reconcile()
        assert managed.manager.troubles == []
        shutil.rmtree(folder)
        for put_in_its_place, trouble in (nothing, "No such file"), (a_file, "Not a directory"):
            put_in_its_place(folder)
            assert 0 < await managed.reconcile() <= 7
            assert f"cannot be listed: {trouble}" in managed.manager.troubles[0]
            assert managed.version() == 1
        folder_again(folder)
        (folder / "m.tflite").write_bytes(digits("2"))
        await managed.reconcile()
        assert managed.manager.troubles == []
        assert managed.version() == 2

    asyncio.run(scenario())


def test_folder_that_is_deleted_and_made_again_is_followed_again(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder, rescan_s=0.05)
        (folder / "m.tflite").write_bytes(DIGITS)
        async with following(managed):
            await managed.until(lambda: managed.version() == 1)
            shutil.rmtree(folder)
            folder_again(folder)
            (folder / "m.tflite").write_bytes(digits("2"))
            await managed.until(lambda: managed.version() == 2)
            (folder / "m.tflite").write_bytes(digits("3"))
            await managed.until(lambda: managed.version() == 3)

    asyncio.run(scenario())


def test_rescan_takes_the_place_of_events(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, SMB and some bind mounts."""

    async def scenario() -> None:
        managed = Managed(folder, rescan_s=0.05)
        async with following(managed):
            (folder / "m.tflite").write_bytes(DIGITS)
            await managed.until(lambda: managed.version() == 1)
            write_whole(folder / "m.tflite", digits("2"))
            await managed.until(lambda: managed.version() == 2)

    monkeypatch.setattr(FolderWatch, "_watch_current_folder", lambda _: False)
    asyncio.run(scenario())


def test_one_bad_model_does_not_hold_up_another(folder: Path) -> None:
    async def scenario() -> None:
        managed = Managed(folder)
        for name, content in {"a": b"no model", "b": DIGITS, "c": DIGITS[:2000]}.items():
            write_whole(folder / f"{name}.tflite", content)
        await managed.reconcile()
        assert sorted(managed.manager.served) == ["b"]
        assert [status.name for status in managed.manager.statuses if status.rejection] == ["a", "c"]

    asyncio.run(scenario())


@pytest.mark.parametrize("replace", [arrive_by_write, arrive_by_rename])
def test_every_result_names_the_version_that_made_it_while_models_are_swapped(
    folder: Path, replace: Callable[[Path, bytes], None]
) -> None:
    """Labels and hash of one file, whatever is copied over it in the meantime; and never a gap."""
    versions = {n: digits(str(n), labels=[f"digit {digit} of {n}" for digit in DIGIT_LABELS]) for n in range(1, 7)}
    label_of = {sha256(content): f"digit 3 of {n}" for n, content in versions.items()}
    frame = Frame(photo_of_3(), captured_ns=time.time_ns())
    jpeg = cv2.imencode(".jpg", frame.image.pixels)[1].tobytes()
    results: list[Result] = []

    async def scenario() -> None:
        managed = Managed(folder, settle_s=0.02, workers=2)
        engine = InferenceEngine(workers=2, max_waiting=2, max_pixels=1 << 26)
        data_plane = DataPlane(engine=engine, models=managed.manager, results=Results(device="d"), listener=Listener())

        async def upload() -> None:
            while True:
                results.append(await data_plane.classify(jpeg, Options("m", max_results=1), arrived_ns=0))

        async def watch() -> None:
            while True:
                results.append(await data_plane.classify_frame(frame, Options("m", max_results=1), source="camera"))

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
            assert all(caller.cancelled() for caller in callers), "no call failed during a swap"
        await asyncio.to_thread(engine.close)

    asyncio.run(scenario())
    assert len(results) > 20
    for result in results:
        classification = result.classification
        assert classification.categories[0].label == label_of[classification.model.sha256]
    made_by = [result.classification.model.version for result in results]
    assert len(set(made_by)) >= 5

"""Watcher: which versions are converted, what a restart repeats, and what becomes of failures."""

from __future__ import annotations

import asyncio
import itertools
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from peers.subscriber import until
from watch_bed import BARE_GRAPH, WatchBed

from agent.security.minisign import TrustedKeys
from converter.signing import SecretKey, public_key_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from converter.watching.watcher import Watcher


_FILES = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")


@asynccontextmanager
async def running(watcher: Watcher) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run)
        yield
        tasks.cancel_scope.cancel()


@pytest.fixture
def bed(tmp_path: Path) -> WatchBed:
    return WatchBed(tmp_path / "bed", key=SecretKey.new())


def test_newest_version_is_converted_and_older_ones_are_left_out(bed: WatchBed) -> None:
    for number in (1, 9, 10):
        bed.export(number)
    assert bed.run_once() == []
    assert bed.calls == ["birds 10"]
    assert bed.delivered == ["birds/10/model.tflite", "birds/10/model.tflite.minisig"]
    assert not (bed.reports / ".work/birds/10").exists()


def test_model_without_a_version_is_named(bed: WatchBed) -> None:
    """Its name in the recipe may be mistyped."""
    missing = f"birds has no version: no folder in {bed.source}/birds has a number as its name."
    assert bed.run_once() == [missing]
    (bed.source / "birds" / "newest").mkdir(parents=True)
    assert bed.run_once() == [missing]


def test_signature_states_the_version_and_is_accepted_by_the_agent(bed: WatchBed, tmp_path: Path) -> None:
    assert bed.key is not None
    bed.export(7)
    bed.run_once()
    (tmp_path / "birds.pub").write_bytes(public_key_file(bed.key.public))
    model = bed.model(7)
    signature = model.with_name("model.tflite.minisig").read_bytes()
    assert TrustedKeys(tmp_path).verify(model, signature, name="model.tflite").version == 7


def test_model_never_appears_without_its_signature(
    bed: WatchBed, on_fsync: Callable[[Callable[[int], None]], None]
) -> None:
    seen: list[set[str]] = []
    on_fsync(lambda _: seen.append({path.name for path in bed.model(1).parent.glob("*")}))
    bed.export(1)
    bed.run_once()
    assert {"model.tflite.minisig", ".model.tflite.new"} in seen
    assert not any("model.tflite" in names and "model.tflite.minisig" not in names for names in seen)


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    bed = WatchBed(tmp_path / "bed")
    bed.export(1)
    assert bed.run_once() == []
    assert bed.delivered == ["birds/1/model.tflite"]


def test_restart_converts_nothing_again(bed: WatchBed) -> None:
    bed.export(1)
    bed.export(2, refused="It is bad.")
    for _ in range(3):
        assert bed.run_once() == ["birds 2 is refused."]
    assert bed.calls == ["birds 2", "birds 1"]


@pytest.mark.parametrize("change", ["source", "recipe", "output", "record"])
def test_what_has_changed_is_converted_again(bed: WatchBed, change: str) -> None:
    bed.export(1)
    bed.run_once()
    before = bed.model(1).read_bytes()
    if change == "source":
        bed.export(1, other=1)
    elif change == "recipe":
        bed.options["mean"] = 127.5
    elif change == "output":
        bed.model(1).write_bytes(b"damaged")
    else:
        (bed.reports / "birds/1.converted.txt").unlink()
    assert bed.run_once() == []
    assert bed.calls == ["birds 1"] * 2
    assert (bed.model(1).read_bytes() == before) == (change in ("output", "record"))


def test_refused_version_leaves_reason_and_report_and_an_older_one_stays(bed: WatchBed) -> None:
    bed.options["evaluate"] = str(bed.folder)
    bed.export(1)
    bed.run_once()
    bed.export(2, refused="It answers at random.")
    assert bed.run_once() == ["birds 2 is refused."]
    assert bed.delivered == ["birds/1/model.tflite", "birds/1/model.tflite.minisig"]
    reason, advice, *_ = (bed.reports / "birds/2.refused.txt").read_text().splitlines()
    assert reason == "It answers at random."
    assert advice.startswith(f"To try again, remove this file. By hand: edge-convert convert {bed.source}/birds/2 ")
    assert (bed.reports / "birds/2.html").read_text() == "a report"
    assert (bed.reports / "birds/2.json").exists()
    assert not (bed.reports / ".work/birds/2").exists()


def test_removing_the_reason_tries_again(bed: WatchBed) -> None:
    bed.export(1, refused="It is bad.")
    bed.run_once()
    (bed.reports / "birds/1.refused.txt").unlink()
    bed.run_once()
    assert bed.calls == ["birds 1"] * 2


def test_refused_version_is_converted_once_its_recipe_allows_it(bed: WatchBed) -> None:
    version = bed.export(1, refused="It is bad.")
    bed.run_once()
    (version / "behavior").write_text("{}")
    assert bed.run_once() == []
    assert bed.delivered[0] == "birds/1/model.tflite"
    assert not (bed.reports / "birds/1.refused.txt").exists()


def test_temporary_failure_is_not_a_refusal(bed: WatchBed) -> None:
    version = bed.export(1, failed="The disk is full.")
    assert bed.run_once() == ["birds 1: The disk is full."]
    assert not (bed.reports / "birds/1.refused.txt").exists()
    (version / "behavior").write_text("{}")
    assert bed.run_once() == []


@pytest.mark.anyio
async def test_third_crash_is_a_refusal(bed: WatchBed) -> None:
    bed.export(1, crash=True)
    refusal = bed.reports / "birds/1.refused.txt"
    async with running(bed.watcher(first_retry_s=0.01)):
        await until(refusal.exists)
    assert refusal.read_text().startswith("The conversion failed: SIGKILL.\n")
    assert bed.calls == ["birds 1"] * 3


def test_missing_photos_delay_a_conversion(bed: WatchBed) -> None:
    bed.options["calibration"] = "photos"
    bed.export(1)
    photos = bed.folder / "photos"
    sentence = f"{photos} does not exist (models.birds.calibration). Create it, or correct the path."
    assert bed.run_once() == [f"birds 1: {sentence}"]
    assert bed.calls == []
    photos.mkdir()
    assert bed.run_once() == []


def test_missing_output_folder_delays_everything(bed: WatchBed) -> None:
    bed.export(1)
    bed.output.rmdir()
    assert bed.run_once() == [f"birds 1: {bed.output}: No such file or directory."]
    assert (bed.calls, bed.output.exists()) == ([], False)


def test_failed_delivery_does_not_convert_again(bed: WatchBed) -> None:
    bed.export(1)
    (bed.output / "birds").write_text("a file where a folder must be")
    (trouble,) = bed.run_once()
    assert trouble.startswith(f"birds 1: {bed.output}/birds")
    (bed.output / "birds").unlink()
    assert bed.run_once() == []
    assert bed.calls == ["birds 1"]


def test_command_runs_in_the_output_folder_once_per_version(bed: WatchBed) -> None:
    bed.recipe["command"] = ["sh", "-c", "echo $PWD $0 {version} $(ls {name}/{version}) >>../sent", "{name}"]
    bed.export(3)
    for _ in range(2):
        assert bed.run_once() == []
    sent = (bed.folder / "sent").read_text()
    assert sent == f"{bed.output} birds 3 model.tflite model.tflite.minisig\n"


def test_failing_command_is_repeated_without_another_conversion(bed: WatchBed) -> None:
    bed.recipe["command"] = ["sh", "-c", "echo no route >&2; test -e ../network"]
    bed.export(1)
    for _ in range(2):
        assert bed.run_once() == ["birds 1: The command failed (exit code 1: no route)."]
    (bed.folder / "network").touch()
    assert bed.run_once() == []
    assert bed.calls == ["birds 1"]


def test_command_that_does_not_exist_is_a_temporary_failure(bed: WatchBed) -> None:
    bed.recipe["command"] = ["/nowhere/rsync"]
    bed.export(1)
    assert bed.run_once() == ["birds 1: /nowhere/rsync: No such file or directory."]


def test_changed_command_delivers_again_without_another_conversion(bed: WatchBed) -> None:
    bed.export(1)
    for target in ("one", "two"):
        bed.recipe["command"] = ["touch", f"../{target}"]
        assert bed.run_once() == []
        assert (bed.folder / target).exists()
    assert bed.calls == ["birds 1"]


def test_another_key_signs_again_without_another_conversion(bed: WatchBed) -> None:
    bed.export(1)
    bed.run_once()
    signature = bed.model(1).with_name("model.tflite.minisig")
    before = signature.read_bytes()
    bed.key = SecretKey.new()
    assert bed.run_once() == []
    assert signature.read_bytes() != before
    assert bed.calls == ["birds 1"]


def test_the_only_keras_file_of_a_version_is_converted(bed: WatchBed) -> None:
    version = bed.export(1)
    (version / "saved_model.pb").unlink()
    with zipfile.ZipFile(version / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert bed.run_once() == []
    assert bed.converted == [str(version / "model.keras")]


def test_links_are_not_watched_twice(bed: WatchBed, tmp_path: Path) -> None:
    bed.export(1)
    (bed.source / "birds/latest").symlink_to("1")
    assert bed.run_once() == []
    assert bed.calls == ["birds 1"]


@pytest.mark.assets
@pytest.mark.parametrize("order", list(itertools.permutations(_FILES)), ids=lambda order: Path(order[-1]).suffix[1:6])
def test_half_copied_version_is_not_converted(bed: WatchBed, assets: Path, order: tuple[str, ...]) -> None:
    """The last file comes in two parts."""
    trained = assets / "savedmodels/vww_96_savedmodel"
    version = bed.source / "birds/1"
    (version / "variables").mkdir(parents=True)
    for name in order:
        content = (trained / name).read_bytes()
        (version / name).write_bytes(content[: len(content) // 2])
        (trouble,) = bed.run_once()
        assert trouble.startswith("The SavedModel is not complete: ")
        (version / name).write_bytes(content)
        assert (bed.run_once() == []) == (name == order[-1])
    assert bed.calls == ["birds 1"]
    assert list(bed.reports.rglob("*.refused.txt")) == []


@pytest.mark.anyio
async def test_version_that_stays_incomplete_is_refused_until_it_is_complete(bed: WatchBed) -> None:
    version = bed.export(1)
    graph, refusal = version / "saved_model.pb", bed.reports / "birds/1.refused.txt"
    graph.unlink()
    async with running(bed.watcher(patience_s=0.1)):
        await until(refusal.exists)
        assert refusal.read_text().startswith("The SavedModel is not complete: saved_model.pb is missing. ")
        whole = bed.folder / "whole.pb"
        whole.write_bytes(BARE_GRAPH)
        whole.replace(graph)  # at once, so that there is one new state
        await until(lambda: bed.model(1).exists() and not refusal.exists())
    assert bed.calls == ["birds 1"]


def test_a_folder_without_files_is_not_refused_at_once(bed: WatchBed) -> None:
    """An export makes its folder first; without files it has no time stamps."""
    (bed.source / "birds/2").mkdir(parents=True)
    for _ in range(2):
        (trouble,) = bed.run_once()
        assert trouble.startswith("The SavedModel is not complete: ")
    assert list(bed.reports.rglob("*.refused.txt")) == []


def test_version_is_not_taken_before_it_rests(bed: WatchBed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(duration_s: float) -> None:
        raise TimeoutError(duration_s)

    bed.export(1)
    watcher = bed.watcher(rest_s=3000)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(TimeoutError) as raised:
        asyncio.run(watcher.run_once())
    assert 2900 < raised.value.args[0] <= 3000
    assert bed.calls == []


@pytest.mark.anyio
async def test_source_that_changes_during_its_conversion_is_converted_again(bed: WatchBed) -> None:
    version = bed.export(1, waits_for=str(bed.folder / "go"))
    async with running(bed.watcher()):
        await until(lambda: bed.calls)
        (version / "more").touch()
        (bed.folder / "go").touch()
        await until(bed.model(1).exists)
    assert bed.calls == ["birds 1"] * 2


@pytest.mark.anyio
async def test_newer_version_comes_before_another_try_of_the_older_one(bed: WatchBed) -> None:
    bed.export(1, failed="The disk is full.")
    async with running(bed.watcher()):
        await until(lambda: bed.calls)
        bed.export(2)
        await until(bed.model(2).exists)
    assert bed.calls == ["birds 1", "birds 2"]


def test_folder_that_the_recipe_does_not_name_is_reported_once(bed: WatchBed, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        bed.export(number, name="fish")
    assert bed.run_once() == [f"birds has no version: no folder in {bed.source}/birds has a number as its name."]
    assert caplog.messages == [f"{bed.source}/fish is ignored: the recipe has no models.fish."]

"""Versions: what outlasts a restart, what goes back by itself, and what a person decides."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from agents.managed import LONG_S, Managed, TrialHere
from agents.models_on_disk import DIGITS, digits, write_whole

from agent.classification import Timing
from agent.errors import ModelError, ModelNotFoundError, NotFiniteError, StoreError, VersionError
from agent.model_file.settings import ModelSettings
from agent.models.store import write_durably
from agent.security.minisign import Signed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.models.loader import LoadedModel
    from agent.models.store import Copy
    from agent.models.versions import Version

ONE, TWO, THREE, FOUR = (digits(str(number)) for number in (1, 2, 3, 4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


def drop(folder: Path, content: bytes, name: str = "m") -> None:
    write_whole(folder / f"{name}.tflite", content)


def put(folder: Path, version: int, content: bytes) -> None:
    (folder / "m" / str(version)).mkdir(parents=True, exist_ok=True)
    write_whole(folder / "m" / str(version) / "model.tflite", content)


async def dropped(folder: Path, *contents: bytes, **options: object) -> Managed:
    """A manager that saw one after the other, and for which each has passed its probation."""
    managed = Managed(folder, **options)  # type: ignore[arg-type]
    await managed.start()
    for content in contents:
        drop(folder, content)
        await managed.reconcile()
        prove(managed)
    return managed


def prove(managed: Managed) -> None:
    """As if every version in memory had been on probation for long enough."""
    for name, model in managed.serving._models.items():
        for number in list(model.probations):
            managed.serving._prove(name, number)


async def next_start(managed: Managed, **options: object) -> Managed:
    """After a clean stop."""
    await managed.manager.close()
    return await start_after_crash(managed, **options)


async def start_after_crash(managed: Managed, **options: object) -> Managed:
    again = Managed(managed.folder, **options)  # type: ignore[arg-type]
    await again.start()
    return again


def answer(managed: Managed, ms: float = 1.0) -> Timing:
    return Timing(0, 0, ms, ms, ms)


def observe(managed: Managed, *outcomes: Timing | ModelError) -> None:
    for outcome in outcomes:
        managed.manager.observe(managed.manager.get("m"), outcome)


async def decided(managed: Managed) -> None:
    """What an observed inference set off has come to its end."""
    while managed.serving._tasks:
        await asyncio.wait(set(managed.serving._tasks))


def scenario(steps: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    """Runs a coroutine as a test."""

    def test(folder: Path) -> None:
        async def run() -> None:
            await steps(folder)

        asyncio.run(run())

    return test


@scenario
async def test_versions_are_counted_on_after_a_restart(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    again = await next_start(managed)
    assert (again.version(), again.trial.runs) == (2, [])  # type: ignore[attr-defined]
    await again.reconcile()
    assert (again.version(), again.trial.runs, again.loads) == (2, [], [])  # type: ignore[attr-defined]
    drop(folder, THREE)
    await again.reconcile()
    assert again.version() == 3


@scenario
async def test_what_serves_is_loaded_from_the_store_and_not_from_the_folder(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    (folder / "m.tflite").write_bytes(b"half a co")
    again = await next_start(managed)
    assert (again.version(), again.label()) == (1, "3")
    await again.reconcile()
    assert again.version() == 1
    assert "not a .tflite" in again.reason()


@scenario
async def test_settings_beside_the_file_are_kept_with_the_version(folder: Path) -> None:
    (folder / "m.txt").write_text("\n".join("abcdefghij"))
    managed = await dropped(folder, ONE)
    (folder / "m.txt").write_text("\n".join("ABCDEFGHIJ"))
    again = await next_start(managed)
    assert again.label() == "d"
    await again.reconcile()
    assert (again.version(), again.label()) == (2, "D")


@scenario
async def test_configuration_beats_what_is_kept(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    again = await next_start(managed, settings={"m": ModelSettings(labels=tuple("abcdefghij"))})
    assert (again.version(), again.label()) == (1, "d")


@scenario
async def test_the_same_file_copied_again_while_the_agent_was_off_is_no_new_version(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, ONE)
    again = await next_start(managed)
    await again.reconcile()
    assert (again.version(), again.loads) == (1, [])


@scenario
async def test_file_that_was_removed_while_the_agent_was_off_is_retired(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    (folder / "m.tflite").unlink()
    again = await next_start(managed, retire_after_s=0)
    assert again.version() == 1
    await again.reconcile()
    assert again.version() is None
    assert again.copies() == set()
    drop(folder, ONE)
    await again.reconcile()
    assert again.version() == 2


@scenario
async def test_store_keeps_the_newest_versions_and_what_serves(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, keep_versions=2)
    await managed.manager.pin("m", 1)
    for content in (THREE, FOUR):
        drop(folder, content)
        await managed.reconcile()
    assert managed.version() == 1
    assert managed.states() == {4: "admitted", 3: "admitted", 2: "admitted", 1: "serving"}  # 2 is the newest proven one
    assert len(managed.copies()) == 4
    await managed.manager.unpin("m")
    prove(managed)
    await managed.reconcile()
    assert managed.states() == {4: "serving", 3: "admitted"}
    assert managed.copies() == {version.sha256 for version in managed.status().versions}


@scenario
async def test_store_that_lost_its_copy_takes_the_file_from_the_folder_again(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    shutil.rmtree(managed.store.folder)
    again = await next_start(managed)
    assert again.label() == "3"
    assert again.version() == 2


@scenario
async def test_damaged_copy_gives_way_to_the_version_before(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    path = managed.store.path(managed.identity().sha256)
    path.chmod(0o644)
    path.write_bytes(b"garbage")
    again = await next_start(managed)
    assert again.version() == 1
    await again.reconcile()
    assert (again.version(), again.identity().sha256) == (3, managed.identity().sha256)


@scenario
async def test_person_goes_back_and_the_file_in_the_folder_does_not_come_again(folder: Path) -> None:
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
    drop(folder, THREE)  # copied again: the same bytes
    await again.reconcile()
    assert again.version() == 1
    drop(folder, FOUR)
    await again.reconcile()
    assert (again.version(), again.reason(), (folder / "m.tflite.rejected.txt").exists()) == (4, "", False)


@scenario
async def test_rollback_in_the_layout_of_tensorflow_serving_goes_to_the_next_lower_folder(folder: Path) -> None:
    put(folder, 9, ONE)
    put(folder, 10, TWO)
    managed = await dropped(folder)
    assert managed.version() == 10
    with pytest.raises(VersionError, match="no other good version"):
        await managed.manager.rollback("m")  # 9 was never looked at
    await managed.manager.pin("m", 9)
    assert managed.version() == 9
    await managed.manager.unpin("m")
    assert managed.version() == 10
    await managed.manager.rollback("m")
    assert managed.version() == 9
    await managed.reconcile()
    assert managed.version() == 9


@scenario
async def test_pinned_version_serves_whatever_is_dropped_and_across_a_restart(folder: Path) -> None:
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


@scenario
async def test_pin_takes_a_version_that_was_withdrawn_on_probation_again(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.rollback("m")
    await managed.manager.pin("m", 2)
    assert (managed.version(), managed.status().probation) == (2, True)
    await managed.reconcile()
    assert managed.reason() == ""


@scenario
async def test_pin_and_the_like_refuse_what_is_not_there(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    with pytest.raises(VersionError, match=r"no version 7 in the store\. There are: 1\."):
        await managed.manager.pin("m", 7)
    with pytest.raises(VersionError, match="no canary"):
        await managed.manager.promote("m")
    for act in (managed.manager.rollback, managed.manager.unpin, managed.manager.promote):
        with pytest.raises(ModelNotFoundError, match=r"Drop x\.tflite"):
            await act("x")
    put(folder, 8, b"no model")
    with pytest.raises(VersionError, match=r"Version 8 cannot serve: This is not a \.tflite model"):
        await managed.manager.pin("m", 8)
    managed.manager._settle_s = LONG_S
    put(folder, 9, TWO)
    with pytest.raises(VersionError, match="still being copied"):
        await managed.manager.pin("m", 9)


@scenario
async def test_pinned_version_that_does_not_load_leaves_what_served(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    load = managed.loader.load

    def refuse(name: str, version: Version) -> LoadedModel:
        if version.number == 1:
            raise ModelError("The runtime refuses it.")
        return load(name, version)

    managed.loader.load = refuse  # type: ignore[method-assign]
    with pytest.raises(VersionError, match=r"Version 1 of model m cannot serve: The runtime refuses it\."):
        await managed.manager.pin("m", 1)
    assert (managed.version(), managed.status().pinned) == (2, None)


@pytest.mark.parametrize(
    ("outcomes", "cause"),
    [
        ([ModelError("It fails.")] * 3, "failures"),
        ([NotFiniteError("NaN.")], "nan"),
        ([Timing(0, 0, 500, 500, 500)] * 20, "slow"),
    ],
)
def test_version_that_fails_on_probation_gives_way_to_the_one_before(
    folder: Path, outcomes: list[Timing | ModelError], cause: str
) -> None:
    async def steps() -> None:
        managed = await dropped(folder, ONE)
        drop(folder, TWO)
        await managed.reconcile()
        assert managed.status().probation
        observe(managed, *outcomes)
        await decided(managed)
        assert managed.version() == 1
        assert managed.rollbacks == [("m", cause)]
        await managed.reconcile()
        assert "Version 2 was withdrawn while on probation" in managed.reason()
        assert "take it again: edge-agent models pin m 2" in (folder / "m.tflite.rejected.txt").read_text()
        again = await next_start(managed)
        await again.reconcile()
        assert (again.version(), again.reason() != "") == (1, True)

    asyncio.run(steps())


@scenario
async def test_without_another_version_a_failing_one_leaves_none_and_a_slow_one_stays(folder: Path) -> None:
    managed = await dropped(folder)
    drop(folder, ONE)
    await managed.reconcile()
    observe(managed, *[answer(managed, 500)] * 20)
    await decided(managed)
    assert (managed.version(), managed.status().probation) == (1, False)
    (folder / "m.tflite").unlink()
    managed.manager._retire_after_s = 0
    await managed.reconcile()
    drop(folder, TWO)
    await managed.reconcile()
    observe(managed, NotFiniteError("NaN."))
    await decided(managed)
    assert managed.version() is None
    await managed.reconcile()
    with pytest.raises(ModelNotFoundError, match="withdrawn while on probation"):
        managed.manager.get("m")


@scenario
async def test_version_that_lasts_is_proven_and_failures_count_no_more(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    observe(managed, *[answer(managed)] * 100)
    await decided(managed)
    assert not managed.status().probation
    observe(managed, *[ModelError("It fails.")] * 5)
    await decided(managed)
    assert managed.version() == 2
    assert json.loads((folder.parent / "state/history.json").read_text())["models"]["m"]["versions"][1]["proven"]


@scenario
async def test_probation_ends_by_time_though_few_images_come(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    observe(managed, *[answer(managed)] * 3)
    managed.serving._models["m"].probations[2]._until_s = 0
    await managed.reconcile()
    assert not managed.status().probation


@scenario
async def test_last_call_of_a_version_that_is_gone_counts_for_nobody(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    old = managed.manager.get("m")
    drop(folder, TWO)
    await managed.reconcile()
    managed.manager.observe(old, NotFiniteError("NaN."))
    assert managed.version() == 2


@scenario
async def test_crash_on_probation_is_followed_by_the_version_before(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    again = await start_after_crash(managed)
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])
    await again.reconcile()
    assert again.version() == 1
    assert "The agent died while this version was on probation" in again.reason()
    third = await start_after_crash(again)
    await third.reconcile()
    assert (third.version(), third.rollbacks) == (1, [])


@scenario
async def test_clean_stop_or_crash_of_a_proven_version_blames_nobody(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    managed = await next_start(managed)
    assert (managed.version(), managed.status().probation) == (2, True)
    prove(managed)
    await managed.reconcile()
    for _ in range(4):
        managed = await start_after_crash(managed)
        assert (managed.version(), managed.rollbacks) == (2, [])


@scenario
async def test_power_cuts_on_probation_are_no_crashes_until_the_third(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    drop(folder, TWO)
    await managed.reconcile()
    for start in (2, 3):
        another_boot(folder)
        managed = await start_after_crash(managed)
        assert managed.version() == 2, f"start {start}"
    another_boot(folder)
    managed = await start_after_crash(managed)
    assert managed.version() == 1
    await managed.reconcile()
    assert "died in 3 starts in a row" in managed.reason()


@scenario
async def test_only_version_is_tried_three_times_and_then_the_agent_stays_up_without(folder: Path) -> None:
    managed = await dropped(folder)
    drop(folder, ONE)
    await managed.reconcile()
    for _ in (2, 3):
        managed = await start_after_crash(managed)
        assert managed.version() == 1
    managed = await start_after_crash(managed)
    await managed.reconcile()
    assert managed.version() is None
    assert "died in 3 starts in a row" in managed.reason()
    drop(folder, TWO)
    await managed.reconcile()
    assert managed.version() == 2


@scenario
async def test_proven_version_is_given_up_once_its_load_kills_three_starts(folder: Path) -> None:
    class PowerOff(BaseException):
        """Ends the load as a crash would: nothing after it runs."""

    managed = await dropped(folder, ONE, TWO)
    await managed.manager.close()
    for _ in range(3):
        dying = Managed(folder)
        dying.loader.load = die(PowerOff)  # type: ignore[method-assign]
        dying.history.end_loading = lambda name: None  # type: ignore[method-assign]
        with pytest.raises(PowerOff):
            await dying.start()
    managed = await start_after_crash(managed)
    assert (managed.version(), managed.rollbacks) == (1, [("m", "crash")])


@scenario
async def test_damaged_history_is_set_aside_and_the_folder_is_read_anew(folder: Path) -> None:
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


@scenario
async def test_history_that_cannot_be_read_at_all_is_no_end(folder: Path) -> None:
    (folder.parent / "state" / "history.json").mkdir(parents=True)
    managed = await dropped(folder, ONE)
    assert (managed.version(), managed.manager.troubles) == (1, [])
    assert list((folder.parent / "state").glob("history.json.damaged-*"))


@scenario
async def test_store_that_cannot_be_written_lets_the_candidate_wait(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    real = managed.store.put

    def full(source: Path) -> Copy:
        raise StoreError("The disk is full.")

    managed.store.put = full  # type: ignore[method-assign]
    drop(folder, TWO)
    for _ in range(2):
        await managed.reconcile()
        assert (managed.version(), managed.status().candidate, managed.reason()) == (1, "m.tflite", "")
        assert managed.manager.troubles == ["The disk is full."]
    managed.store.put = real  # type: ignore[method-assign]
    await managed.reconcile()
    assert (managed.version(), managed.manager.troubles) == (2, [])


@scenario
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


@scenario
async def test_canary_that_fails_or_is_rolled_back_leaves_the_stable_version_alone(folder: Path) -> None:
    managed = await dropped(folder, ONE, canary_shares={"m": 0.5})
    for content, fails in ((TWO, True), (THREE, False)):
        drop(folder, content)
        await managed.reconcile()
        canary = managed.manager.canaries["m"]
        if fails:
            managed.manager.observe(canary, NotFiniteError("NaN."))
            await decided(managed)
        else:
            await managed.manager.rollback("m")
        await managed.reconcile()
        assert (managed.version(), dict(managed.manager.canaries)) == (1, {})
        assert managed.reason()
    assert managed.rollbacks == [("m", "nan"), ("m", "operator")]


@scenario
async def test_without_a_share_no_version_is_a_canary(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, canary_shares={"n": 0.5})
    assert (managed.version(), dict(managed.manager.canaries)) == (2, {})
    assert managed.manager.for_upload(None).identity.version == 2


@scenario
async def test_where_memory_is_short_the_old_version_goes_first(folder: Path) -> None:
    managed = await dropped(folder, ONE, unloads_first=True, trial=TrialHere(bytes_each=1000))
    assert managed.gaps == []
    served: list[int | None] = []
    load = managed.loader.load

    def loading(name: str, version: Version) -> LoadedModel:
        served.append(managed.version())
        return load(name, version)

    managed.loader.load = loading  # type: ignore[method-assign]
    drop(folder, TWO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.models.serving.free_bytes", lambda: 0)
        await managed.reconcile()
    assert (served, managed.version()) == ([None], 2)
    assert [name for name, _ in managed.gaps] == ["m"]
    assert managed.gaps[0][1] > 0


@scenario
async def test_gap_lasts_until_something_serves_again_though_it_be_the_old_version(folder: Path) -> None:
    managed = await dropped(folder, ONE, unloads_first=True, trial=TrialHere(bytes_each=1000))
    load = managed.loader.load

    def only_one(name: str, version: Version) -> LoadedModel:
        if version.number == 2:
            raise ModelError("It does not load.")
        return load(name, version)

    managed.loader.load = only_one  # type: ignore[method-assign]
    drop(folder, TWO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.models.serving.free_bytes", lambda: 0)
        await managed.reconcile()
    assert (managed.version(), [name for name, _ in managed.gaps]) == (1, ["m"])


@scenario
async def test_where_memory_suffices_nothing_is_unloaded_first(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO, unloads_first=True)
    assert (managed.version(), managed.gaps) == (2, [])


@scenario
async def test_candidate_for_which_there_is_no_memory_is_rejected(folder: Path) -> None:
    for unloads_first in (False, True):
        managed = await dropped(folder, ONE, trial=TrialHere(bytes_each=1 << 50), unloads_first=unloads_first)
        assert "for 1 workers and" in managed.reason()
        assert ("models.swap: resource" in managed.reason()) is not unloads_first
        drop(folder, b"")


@scenario
async def test_version_that_does_not_load_leaves_the_old_one_and_is_tried_at_the_next_start(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    load = managed.loader.load
    for content, error in ((TWO, ModelError("The runtime refuses it.")), (THREE, KeyError("x"))):
        managed.loader.load = die(error)  # type: ignore[method-assign]
        drop(folder, content)
        await managed.reconcile()
        assert managed.version() == 1
        await managed.reconcile()
        assert "refuses it" in managed.reason() or "cannot be loaded (KeyError" in managed.reason()
    managed.loader.load = load  # type: ignore[method-assign]
    assert managed.rollbacks == []
    again = await next_start(managed)  # with the configuration mended, or another runtime
    assert again.version() == 1
    await again.reconcile()
    assert (again.version(), again.identity().sha256) == (3, hashlib.sha256(THREE).hexdigest())


@scenario
async def test_notes_stand_beside_rejected_files_only_as_long_as_these_do(folder: Path) -> None:
    (folder / "gone.tflite.rejected.txt").write_text("of an earlier run")
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


def die(error: BaseException | type[BaseException]) -> Callable[..., LoadedModel]:
    def load(*_: object) -> LoadedModel:
        raise error

    return load


def another_boot(folder: Path) -> None:
    path = folder.parent / "state" / "history.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "boot": "of another time"}))


@scenario
async def test_file_that_is_cut_off_waits_for_the_rest_and_is_rejected_when_it_does_not_come(folder: Path) -> None:
    managed = await dropped(folder, patience_s=LONG_S)
    drop(folder, ONE[:-100])
    assert 50 < await managed.reconcile() <= LONG_S
    assert 50 < await managed.reconcile() <= LONG_S
    assert (managed.status().candidate, managed.reason(), len(managed.trial.runs)) == ("m.tflite", "", 1)  # type: ignore[attr-defined]
    managed.manager._patience_s = 0
    await managed.reconcile()
    assert (managed.status().candidate, managed.loads) == (None, [("m", "rejected")])
    assert "not wholly copied" in managed.reason()
    assert len(managed.trial.runs) == 1  # type: ignore[attr-defined]


@scenario
async def test_file_that_is_cut_off_where_its_checksum_was_made_has_nothing_to_wait_for(folder: Path) -> None:
    managed = await dropped(folder, patience_s=LONG_S)
    managed.manager._settle_s = LONG_S
    content = ONE[:-100]
    (folder / "m.tflite.sha256").write_text(hashlib.sha256(content).hexdigest())
    drop(folder, content)
    assert 0 < await managed.reconcile() <= 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.models.manager._AT_ONCE_S", 0.0)
        await managed.reconcile()
    assert managed.loads == [("m", "rejected")]


@scenario
async def test_start_waits_for_a_file_that_was_dropped_this_very_moment(folder: Path) -> None:
    drop(folder, ONE)
    managed = Managed(folder, settle_s=0.2)
    await managed.start()
    assert managed.version() == 1


@scenario
async def test_number_of_a_version_belongs_to_the_bytes_that_it_was_admitted_with(folder: Path) -> None:
    put(folder, 7, ONE)
    managed = await dropped(folder)
    put(folder, 7, TWO)
    await managed.reconcile()
    assert (managed.version(), managed.identity().sha256) == (7, hashlib.sha256(ONE).hexdigest())
    assert "Version 7 was another file" in managed.reason()
    assert "such as 8" in managed.reason()
    put(folder, 8, TWO)
    await managed.reconcile()
    assert managed.version() == 8
    put(folder, 7, ONE)
    await managed.reconcile()
    assert (managed.version(), managed.reason()) == (8, "")


@scenario
async def test_file_of_a_serving_folder_may_be_touched_or_spoiled(folder: Path) -> None:
    put(folder, 7, ONE)
    managed = await dropped(folder)
    put(folder, 8, TWO)
    await managed.reconcile()
    managed.manager._settle_s = LONG_S
    put(folder, 8, TWO)
    await managed.reconcile()
    assert managed.version() == 8
    managed.manager._settle_s = 0
    put(folder, 8, b"no model")
    await managed.reconcile()
    assert (managed.version(), "Version 8 was another file" in managed.reason()) == (8, True)
    shutil.rmtree(folder / "m" / "8")
    await managed.reconcile()
    assert managed.version() == 7


@scenario
async def test_promoted_version_is_still_the_one_to_blame(folder: Path) -> None:
    managed = await dropped(folder, ONE, canary_shares={"m": 0.5})
    drop(folder, TWO)
    await managed.reconcile()
    await managed.manager.promote("m")
    again = await start_after_crash(managed, canary_shares={"m": 0.5})
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])


@scenario
async def test_one_crash_never_takes_the_last_good_version(folder: Path) -> None:
    managed = await dropped(folder, canary_shares={"m": 0.5})
    for content in (ONE, TWO):
        drop(folder, content)
        await managed.reconcile()
    assert (managed.version(), len(managed.manager.canaries)) == (1, 1)
    again = await start_after_crash(managed, canary_shares={"m": 0.5})
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])


@scenario
async def test_copies_of_what_may_never_serve_again_are_not_kept(folder: Path) -> None:
    managed = await dropped(folder, *(digits(str(number)) for number in range(10, 16)), keep_versions=2)
    for number in range(20, 24):
        drop(folder, digits(str(number)))
        await managed.reconcile()
        observe(managed, NotFiniteError("NaN."))
        await decided(managed)
    await managed.reconcile()
    assert len(managed.history["m"].versions) > 4
    assert len(managed.copies()) <= 4
    managed.manager._retire_after_s = 0
    (folder / "m.tflite").unlink()
    await managed.reconcile()
    await managed.reconcile()
    assert managed.copies() == set()
    drop(folder, digits("23"))
    await managed.reconcile()
    assert managed.version() is None
    assert "withdrawn while on probation" in managed.reason()


@scenario
async def test_disk_that_gives_nothing_for_a_while_costs_no_version(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.close()
    again = Managed(folder)
    read = again.store.read

    def nothing(sha256: str) -> bytes:
        raise StoreError("The stored model cannot be read: Input/output error.")

    again.store.read = nothing  # type: ignore[method-assign]
    await again.start()
    assert (again.version(), len(again.history["m"].good)) == (None, 2)
    again.store.read = read  # type: ignore[method-assign]
    await again.reconcile()
    assert again.version() == 2


@scenario
async def test_pin_that_fails_leaves_the_version_withdrawn(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.manager.rollback("m")
    load = managed.loader.load
    managed.loader.load = die(ModelError("No memory now."))  # type: ignore[method-assign]
    with pytest.raises(VersionError, match=r"cannot serve: No memory now\."):
        await managed.manager.pin("m", 2)
    managed.loader.load = load  # type: ignore[method-assign]
    assert managed.states() == {2: "rejected", 1: "serving"}
    assert (await next_start(managed)).version() == 1


@scenario
async def test_nothing_is_swept_while_the_history_on_the_disk_is_an_older_one(folder: Path) -> None:
    is_full = False

    def write(path: Path, content: bytes) -> None:
        if is_full:
            raise StoreError("The disk is full.")
        write_durably(path, content)

    managed = await dropped(folder, ONE, keep_versions=2, write=write)
    is_full = True
    for content in (TWO, THREE, FOUR):
        drop(folder, content)
        await managed.reconcile()
        prove(managed)
    assert managed.version() == 4
    assert managed.manager.troubles == ["The disk is full."]
    again = await start_after_crash(managed, write=write)
    assert again.version() == 1
    is_full = False
    await managed.reconcile()
    assert managed.manager.troubles == []


@scenario
async def test_two_models_that_load_at_once_are_told_apart_after_a_crash(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    await managed.history.begin_loading("m", 2)
    await managed.history.begin_loading("n", 1)
    managed.history.end_loading("n")
    await managed.history.save()
    again = Managed(folder)
    for _ in range(2):
        another_boot(folder)
        again = Managed(folder)
        assert again.history.blame_last_run() == []
        await again.history.begin_loading("m", 2)
    again = await start_after_crash(managed)
    assert (again.version(), again.rollbacks) == (1, [("m", "crash")])


@scenario
async def test_what_a_file_says_of_itself_neither_fills_a_note_nor_steers_a_terminal(folder: Path) -> None:
    managed = await dropped(folder)
    (folder / "m.yaml").write_text(f"? {'x' * 50_000}\n: 1\n")
    drop(folder, ONE)
    await managed.reconcile()
    assert len(managed.reason()) == 1000
    (folder / "m.yaml").write_text('"a\\e[31m\\nb": 1\n')
    await managed.reconcile()
    assert managed.reason().isprintable()


@scenario
async def test_files_rejected_one_after_another_do_not_gather_in_the_store(folder: Path) -> None:
    managed = Managed(folder)
    put_real, most = managed.store.put, 0

    def counting(source: Path) -> Copy:
        nonlocal most
        copy = put_real(source)
        most = max(most, len(managed.copies()))
        return copy

    managed.store.put = counting  # type: ignore[method-assign]
    for number in range(6):
        drop(folder, b"no model %d" % number, f"bad{number}")
    await managed.reconcile()
    assert (most, managed.copies()) == (1, set())


@scenario
async def test_memory_of_the_stable_version_is_no_room_for_a_canary(folder: Path) -> None:
    sizes = {"trial": TrialHere(bytes_each=1000), "unloads_first": True}
    managed = await dropped(folder, ONE, canary_shares={"m": 0.5}, **sizes)
    assert managed.serving.bytes_to_free("m") == 0
    other = await dropped(folder, TWO, **sizes)
    assert other.serving.bytes_to_free("m") == 1000


class Keys:
    """Trusts whoever `trusted` names; a signature is a name and a version."""

    def __init__(self) -> None:
        self.trusted: set[str] = set()

    def fingerprint(self) -> tuple[object, ...]:
        return tuple(sorted(self.trusted))

    def names(self) -> set[str]:
        return self.trusted

    def verify(self, content: Path, signature: bytes, *, name: str) -> Signed:
        signer, version = signature.decode().split()
        if signer not in self.trusted:
            raise ModelError(f"{name} is signed by a stranger.")
        return Signed(signer, "", int(version))


def sign(folder: Path, version: int) -> None:
    (folder / "m.tflite.minisig").write_text(f"us {version}")


@scenario
async def test_key_that_comes_later_admits_what_was_rejected(folder: Path) -> None:
    keys = Keys()
    managed = Managed(folder, signatures="required", keys=keys)  # type: ignore[arg-type]
    sign(folder, 1)
    drop(folder, ONE)
    await managed.reconcile()
    assert "signed by a stranger" in managed.reason()
    keys.trusted.add("us")
    await managed.reconcile()
    assert (managed.version(), managed.reason()) == (1, "")


@scenario
async def test_the_same_bytes_under_a_higher_signed_version_raise_the_bar(folder: Path) -> None:
    keys = Keys()
    keys.trusted.add("us")
    managed = Managed(folder, signatures="required", keys=keys)  # type: ignore[arg-type]
    for version in (2, 5):
        sign(folder, version)
        drop(folder, ONE)
        await managed.reconcile()
    assert (managed.version(), managed.history["m"].signed) == (1, 5)
    sign(folder, 3)
    drop(folder, TWO)
    await managed.reconcile()
    assert (managed.version(), "states version 3, and version 5" in managed.reason()) == (1, True)


@scenario
async def test_version_from_before_signatures_were_required_serves_once_it_is_signed(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    keys = Keys()
    keys.trusted.add("us")
    again = await next_start(managed, signatures="required", keys=keys)
    assert again.version() is None
    await again.reconcile()
    assert "Version 1 is not signed" in again.reason()
    sign(folder, 1)
    await again.reconcile()
    assert (again.version(), again.reason()) == (1, "")


@scenario
async def test_pin_of_a_version_in_the_folder_says_what_hinders_it_and_leaves_no_candidate(folder: Path) -> None:
    put(folder, 9, ONE)
    managed = await dropped(folder)
    put(folder, 8, b"no model")
    with pytest.raises(VersionError, match="Version 8 cannot serve"):
        await managed.manager.pin("m", 8)
    assert (managed.status().candidate, managed.status().trying) == (None, False)
    shutil.rmtree(folder)
    with pytest.raises(VersionError, match="cannot be listed"):
        await managed.manager.pin("m", 7)


@scenario
async def test_note_on_a_withdrawn_file_keeps_its_promise_however_old_it_is(folder: Path) -> None:
    managed = await dropped(folder, ONE, keep_versions=2)
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


@scenario
async def test_pin_of_a_version_whose_copy_is_damaged_is_refused(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    (one,) = (version for version in managed.status().versions if version.version == 1)
    path = managed.store.path(one.sha256)
    path.chmod(0o644)
    path.write_bytes(b"garbage")
    with pytest.raises(VersionError, match="Its copy in the store is damaged"):
        await managed.manager.pin("m", 1)
    assert (managed.version(), managed.status().pinned) == (2, None)


@scenario
async def test_crash_of_another_model_after_a_load_is_not_blamed_on_what_was_loaded(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    managed = await next_start(managed)
    document = json.loads((folder.parent / "state/history.json").read_text())
    assert document["loading"] == {}


@scenario
async def test_lack_of_memory_is_no_rejection_for_good(folder: Path) -> None:
    managed = await dropped(folder, ONE, trial=TrialHere(bytes_each=1000))
    drop(folder, TWO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.models.admission.free_bytes", lambda: 0)
        await managed.reconcile()
        assert "tried again in a minute" in managed.reason()
    await managed.reconcile()
    assert managed.version() == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.models.manager.time.monotonic", lambda: 1e12)
        await managed.reconcile()
    assert managed.version() == 2


@scenario
async def test_signed_folder_below_a_withdrawn_one_is_a_way_back(folder: Path) -> None:
    keys = Keys()
    keys.trusted.add("us")
    for number, content in ((7, ONE), (8, TWO)):
        put(folder, number, content)
        (folder / "m" / str(number) / "model.tflite.minisig").write_text(f"us {number}")
    managed = Managed(folder, signatures="required", keys=keys)  # type: ignore[arg-type]
    await managed.start()
    assert managed.version() == 8
    observe(managed, NotFiniteError("NaN."))
    await decided(managed)
    await managed.reconcile()
    assert managed.version() == 7


@scenario
async def test_version_of_a_signer_who_is_trusted_no_more_does_not_serve_after_a_start(folder: Path) -> None:
    keys = Keys()
    keys.trusted.add("us")
    managed = Managed(folder, signatures="required", keys=keys)  # type: ignore[arg-type]
    sign(folder, 1)
    drop(folder, ONE)
    await managed.start()
    assert managed.version() == 1
    keys.trusted.clear()
    again = await next_start(managed, signatures="required", keys=keys)
    assert again.version() is None
    await again.reconcile()
    assert "which is not trusted" in again.reason()


@scenario
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


@scenario
async def test_rollback_to_a_copy_that_is_gone_leaves_what_serves(folder: Path) -> None:
    managed = await dropped(folder, ONE, TWO)
    shutil.rmtree(managed.store.folder)
    with pytest.raises(VersionError, match="no other good version in the store"):
        await managed.manager.rollback("m")
    assert managed.version() == 2

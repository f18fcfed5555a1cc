"""Candidates: how long a file must not change, and when it is rejected, tried again or must wait."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from agents.clock import Clock
from agents.managed import (
    LONG_S,
    ONE,
    TWO,
    InProcessTrial,
    Managed,
    drop,
    dropped,
    next_start,
    nothing,
    refuse,
    times,
)
from agents.models_on_disk import (
    DIGITS,
    digits,
    sha256,
    write_whole,
)

from agent.errors import StoreError
from agent.model_file.settings import ModelSettings
from agent.models.policy import Rules
from agent.status import ModelStatus

if TYPE_CHECKING:
    from pathlib import Path

    from agent.models.trial import TrialReport


@pytest.mark.anyio
async def test_file_is_forgotten_when_it_is_removed_before_it_is_examined(folder: Path) -> None:
    managed = Managed(folder, times=times(rest_s=30))
    (folder / "m.tflite").write_bytes(DIGITS)
    await managed.reconcile()
    (folder / "m.tflite").unlink()
    await managed.reconcile()
    assert managed.statuses == [ModelStatus("m", candidate="m.tflite"), ModelStatus("m")]
    assert managed.manager.statuses == []


@pytest.mark.anyio
async def test_model_keeps_serving_when_a_candidate_is_removed_before_it_is_examined(folder: Path) -> None:
    managed = Managed(folder)
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    managed = await next_start(managed, times=times(rest_s=30))
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


@pytest.mark.anyio
async def test_file_is_not_read_while_it_may_still_change(folder: Path) -> None:
    managed = Managed(folder, times=times(rest_s=30))
    (folder / "m.tflite").write_bytes(DIGITS)
    assert 25 < await managed.reconcile() <= 30
    assert managed.loads == []


@pytest.mark.anyio
@pytest.mark.parametrize("first", [DIGITS, b"half a model"])
async def test_file_that_changes_while_it_is_read_is_read_again(folder: Path, first: bytes) -> None:
    managed = Managed(folder)

    def replace_once(source: Path) -> None:
        if source.read_bytes() == first:
            write_whole(source, digits("2"))

    managed.store.after_put = replace_once
    write_whole(folder / "m.tflite", first)
    assert await managed.reconcile() == 0
    assert (managed.version(), managed.status().rejection, managed.status().candidate) == (None, None, "m.tflite")
    assert managed.loads == []
    await managed.reconcile()
    assert managed.identity().sha256 == sha256(digits("2"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error", [MemoryError(), ValueError("Exceeds the limit\udcff"), KeyError("x"), OSError(5, "I/O")]
)
async def test_file_is_rejected_when_admission_raises_an_unexpected_error(
    folder: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class FailingOnce(InProcessTrial):
        def run(self, path: Path, overrides: ModelSettings) -> TrialReport:
            if self.runs:
                return super().run(path, overrides)
            self.runs.append(path)
            raise error

    managed = Managed(folder, trial=FailingOnce())
    for name in ("m", "n"):
        write_whole(folder / f"{name}.tflite", DIGITS)
    await managed.reconcile()
    assert managed.reason().encode().startswith(f"The file cannot be loaded ({type(error).__name__}".encode())
    assert managed.version("n") == 1
    assert "Traceback" in caplog.text


@pytest.mark.anyio
async def test_label_with_a_number_of_thousands_of_digits_is_rejected_without_a_crash(folder: Path) -> None:
    managed = Managed(folder)
    (folder / "m.txt").write_text("9" * 5000 + " cat\n")
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    assert "There are 1 labels for 10 outputs" in managed.reason()


@pytest.mark.anyio
async def test_truncated_file_is_rejected_only_after_the_waiting_time(folder: Path) -> None:
    clock = Clock()
    managed = await dropped(folder, times=times(patience_s=LONG_S, clock=clock))
    drop(folder, ONE[:-100])
    assert 50 < await managed.reconcile() <= LONG_S
    assert 50 < await managed.reconcile() <= LONG_S
    assert (managed.status().candidate, managed.reason(), len(managed.trial.runs)) == ("m.tflite", "", 1)
    clock.now_s += LONG_S
    await managed.reconcile()
    assert (managed.status().candidate, managed.loads) == (None, [("m", "rejected")])
    assert "damaged or incomplete" in managed.reason()
    assert len(managed.trial.runs) == 1


@pytest.mark.anyio
async def test_truncated_file_is_rejected_immediately_when_its_checksum_matches(folder: Path) -> None:
    clock = Clock()
    managed = await dropped(folder, times=times(rest_s=LONG_S, patience_s=LONG_S, clock=clock))
    content = ONE[:-100]
    (folder / "m.tflite.sha256").write_text(hashlib.sha256(content).hexdigest())
    drop(folder, content)
    assert 0 < await managed.reconcile() <= 0.1
    clock.now_s += 0.1
    await managed.reconcile()
    assert managed.loads == [("m", "rejected")]


@pytest.mark.anyio
async def test_reason_is_short_and_printable_when_it_quotes_the_file(folder: Path) -> None:
    managed = await dropped(folder)
    (folder / "m.yaml").write_text(f"? {'x' * 50_000}\n: 1\n")
    drop(folder, ONE)
    await managed.reconcile()
    assert len(managed.reason()) == 1000
    (folder / "m.yaml").write_text('"a\\e[31m\\nb": 1\n')
    await managed.reconcile()
    assert managed.reason().isprintable()


@pytest.mark.anyio
async def test_copies_of_rejected_files_are_removed_from_the_store(folder: Path) -> None:
    managed, most = Managed(folder), 0

    def count(_: Path) -> None:
        nonlocal most
        most = max(most, len(managed.copies()))

    managed.store.after_put = count
    for number in range(6):
        drop(folder, b"no model %d" % number, f"bad{number}")
    await managed.reconcile()
    assert (most, managed.copies()) == (1, set())


@pytest.mark.anyio
async def test_candidate_is_rejected_when_memory_is_too_short(folder: Path) -> None:
    for unloads_first in (False, True):
        managed = await dropped(
            folder, ONE, trial=InProcessTrial(bytes_each=1 << 50), rules=Rules(unloads_first=unloads_first)
        )
        assert "for 1 worker, but" in managed.reason()
        assert ("models.swap: resource" in managed.reason()) is not unloads_first
        drop(folder, b"")


@pytest.mark.anyio
async def test_file_is_tried_again_a_minute_after_memory_was_too_short(folder: Path) -> None:
    clock, free = Clock(), 1 << 30
    managed = await dropped(folder, ONE, times=times(clock=clock), memory=lambda: free)
    drop(folder, TWO)
    free = 0
    await managed.reconcile()
    assert "retries in a minute" in managed.reason()
    free = 1 << 30
    await managed.reconcile()
    assert managed.version() == 1
    clock.now_s += LONG_S
    await managed.reconcile()
    assert managed.version() == 2


@pytest.mark.anyio
async def test_candidate_waits_while_the_store_cannot_be_written(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    managed.store.before_put = refuse(StoreError("The disk is full."))
    drop(folder, TWO)
    for _ in range(2):
        await managed.reconcile()
        assert (managed.version(), managed.status().candidate, managed.reason()) == (1, "m.tflite", "")
        assert managed.manager.troubles == ["The disk is full."]
    managed.store.before_put = nothing
    await managed.reconcile()
    assert (managed.version(), managed.manager.troubles) == (2, [])


@pytest.mark.anyio
async def test_settings_without_effect_are_reported_once_at_admission(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = Managed(folder, settings={"m": ModelSettings(color="rgb")})
    (folder / "m.yaml").write_text("mean: 127.5\nstd: 127.5\n")
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    await managed.reconcile()
    await next_start(managed)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "Model file m.tflite: mean and std have no effect: the uint8 input gets the pixels as they are.",
        "Model file m.tflite: color: rgb has no effect: the input has one channel and gets gray images.",
    ]


@pytest.mark.anyio
async def test_range_in_the_metadata_of_a_uint8_model_is_not_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = Managed(folder)
    write_whole(folder / "m.tflite", digits())
    await managed.reconcile()
    assert managed.version() == 1
    assert "no effect" not in caplog.text

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from agents.managed import Managed, drop
from agents.models_on_disk import BARE_DIGITS, DIGITS

from agent.models.unwritten import why_unwritten

if TYPE_CHECKING:
    from pathlib import Path

HALF = len(DIGITS) // 2


def reserve(path: Path, *written: tuple[int, bytes]) -> None:
    """Reserves the space of DIGITS and writes parts of it."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, len(DIGITS))
        for position, content in written:
            file.seek(position)
            file.write(content)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "written",
    [[], [(0, DIGITS[:HALF])], [(HALF, DIGITS[HALF:])], [(0, DIGITS[:600])], [(0, DIGITS[:-2000])]],
    ids=["nothing", "first half", "second half", "head", "all but the labels"],
)
async def test_note_says_that_a_reserved_file_is_not_filled_yet(folder: Path, written: list[tuple[int, bytes]]) -> None:
    reserve(folder / "m.tflite", *written)
    managed = Managed(folder)
    await managed.start()
    assert managed.version() is None
    note = (folder / "m.tflite.rejected.txt").read_text()
    assert "only zeros: a program probably reserved its space first and is still copying" in note
    with (folder / "m.tflite").open("r+b") as file:
        file.write(DIGITS)
    await managed.reconcile()
    assert (managed.version(), managed.reason()) == (1, "")
    assert not (folder / "m.tflite.rejected.txt").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"", b"Not Found", DIGITS[:HALF], BARE_DIGITS])
async def test_note_about_another_bad_file_does_not_mention_it(folder: Path, content: bytes) -> None:
    drop(folder, content)
    managed = Managed(folder)
    await managed.start()
    assert managed.reason()
    assert "zeros" not in managed.reason()


def test_zeros_inside_count_only_in_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"x" * 4096 + bytes(4096) + b"x" * 4096)
    assert why_unwritten(path, tmp_path, is_damaged=False) is None
    assert why_unwritten(path, tmp_path, is_damaged=True) is not None
    assert why_unwritten(tmp_path / "gone", tmp_path, is_damaged=True) is None

"""Child: what a program leaves running or prints does not hold up the watch."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from converter.watching.child import Ended, run_child

if TYPE_CHECKING:
    from pathlib import Path


def _run(*command: str, folder: Path, limit_s: float = 60) -> Ended:
    return asyncio.run(run_child(command, folder=folder, limit_s=limit_s))


def test_output_and_exit_code_are_returned(tmp_path: Path) -> None:
    ended = _run("sh", "-c", "pwd; echo wrong key >&2; exit 3", folder=tmp_path)
    assert (ended.code, ended.out.decode().strip()) == (3, str(tmp_path))
    assert ended.cause == "exit code 3: wrong key"


def test_a_connection_that_stays_open_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    assert _run("sh", "-c", "setsid sleep 15 & exit 0", folder=tmp_path).code == 0
    assert time.monotonic() - started < 10


def test_a_lot_of_output_is_cut_at_its_start(tmp_path: Path) -> None:
    ended = _run(sys.executable, "-c", "print('x' * (8 << 20)); print('end')", folder=tmp_path)
    assert ended.out.endswith(b"x\nend\n")
    assert len(ended.out) == 1 << 20


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    assert _run("sleep", "30", folder=tmp_path, limit_s=0.2).cause == "it did not finish in time"

"""edge-convert in the process of the tests, since importing TensorFlow in another takes seconds, or in another."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from converter import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "converter.cli")
FED = ("--mean", "0", "--std", "255")  # how the small model of conftest.py is fed


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class EdgeConvert(Protocol):
    def __call__(self, *arguments: str | Path) -> Outcome: ...


def runner(captured: Callable[[], tuple[str, str]]) -> EdgeConvert:
    """The command without a terminal, as in a pipeline; `captured` returns and forgets what was printed."""

    def run(*arguments: str | Path) -> Outcome:
        captured()
        code, handlers, level = 0, logging.root.handlers[:], logging.root.level
        with Path(os.devnull).open() as nothing, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", nothing)
            try:
                cli.main([*map(str, arguments)])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                logging.root.handlers, logging.root.level = handlers, level  # watch sets up its own log
        return Outcome(code, *captured())

    return run


def in_a_process(*arguments: str | Path, command: Sequence[str | Path] = COMMAND) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

"""Kills: a training whose process is killed at five points ends as one that was not killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from trainings import write_shapes

from agent.host.digest import manifest_of

if TYPE_CHECKING:
    from pathlib import Path

_STEPS = ("features-0000000", "features-0000032", "fold-0-of-4", "fold-1-of-4", "fold-3-of-4")
_LONGEST_S = 240


def _start(photos: Path, output: Path) -> subprocess.Popen[bytes]:
    words = ("train", photos, output, "--folds", "4")
    return subprocess.Popen([sys.executable, "-m", "converter.cli", *map(str, words)])


def _kill_after(step: str, photos: Path, output: Path, sign: signal.Signals) -> None:
    path = output.with_name(f".{output.name}.training") / f"{step}.npz"
    process = _start(photos, output)
    deadline = time.monotonic() + _LONGEST_S
    while not path.exists() and process.poll() is None:
        assert time.monotonic() < deadline, f"{step} was not done in time"
        time.sleep(0.002)  # the file is the condition; nothing announces it
    process.send_signal(sign)
    process.wait(_LONGEST_S)


def test_killed_at_five_points_it_ends_with_the_same_files(tmp_path: Path) -> None:
    photos = write_shapes(tmp_path / "photos", per_class=15)
    for number, step in enumerate(_STEPS):
        sign = signal.SIGINT if number % 2 else signal.SIGKILL
        _kill_after(step, photos, tmp_path / "killed", sign)
    for output in (tmp_path / "killed", tmp_path / "whole"):
        assert _start(photos, output).wait(_LONGEST_S) == 0
    assert manifest_of(tmp_path / "killed") == manifest_of(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "killed", "whole"}

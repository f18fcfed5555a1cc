"""Kills: a training whose process is ended at five points, by force or by Ctrl-C, ends as one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from trainings import write_shapes

from agent.host.digest import manifest_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long

_POINTS = {
    "features-0000000": signal.SIGKILL,
    "features-0000016": signal.SIGINT,
    "fold-0-of-4": signal.SIGKILL,
    "fold-1-of-4": signal.SIGINT,
    "fold-3-of-4": signal.SIGKILL,
}


def _start(photos: Path, output: Path) -> subprocess.Popen[str]:
    words = ("train", photos, output, "--folds", "4")
    return subprocess.Popen(
        [sys.executable, "-m", "converter.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end_after(step: str, photos: Path, output: Path, sign: signal.Signals) -> None:
    path = output.with_name(f".{output.name}.training") / f"{step}.npz"
    with _start(photos, output) as process:
        while not path.exists() and process.poll() is None:
            time.sleep(0.002)  # the file is the condition; nothing announces it
        process.send_signal(sign)
        out, err = process.communicate()
    if sign == signal.SIGINT:
        note = "edge-convert: interrupted; the same command continues where this training was.\n"
        assert (process.returncode, out, err) == (130, "", note)
    else:
        assert process.returncode == -signal.SIGKILL


def test_ended_at_five_points_it_makes_the_same_files(tmp_path: Path) -> None:
    photos = write_shapes(tmp_path / "photos")
    for step, sign in _POINTS.items():
        _end_after(step, photos, tmp_path / "stopped", sign)
        assert not (tmp_path / "stopped").exists()
    for output in (tmp_path / "stopped", tmp_path / "whole"):
        with _start(photos, output) as process:
            assert process.communicate()
            assert process.returncode == 0
    assert manifest_of(tmp_path / "stopped") == manifest_of(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "stopped", "whole"}

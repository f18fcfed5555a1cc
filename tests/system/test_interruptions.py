"""Interrupts upgrades by signals and boots again: the old or the new version must serve.

INTERRUPTIONS=full sends four signals at ten points each; without it, a sample: one point for each signal.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from system.bed import PYTHONS, Bed
from system.bundles import unpack_material
from system.probes import SERVES, VERSION
from system.root import missing_for_bed, skip_or_fail, system_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.measured import Note

_HOME = "/opt/edge-agent"
_SUITE = os.environ.get("BEDS", "bookworm").split()[0]
_SITE = "lib/python3.*/site-packages"
_SIGNALS = ("HUP", "INT", "TERM", "KILL")
# The moments, as shell conditions; $new is the folder of the version that the upgrade makes.
_POINTS = {
    "folder": "[ -d $new ]",
    "python": "[ -e $new/bin/python ]",
    "pip": "[ -e $new/bin/pip ]",
    "packages": f"[ -e $new/{_SITE}/numpy ]",
    "wheel": f"[ -e $new/{_SITE}/agent/cli.py ]",
    "system": "[ -e $new/system/install.sh ]",
    "complete": "[ -e $new/complete ]",
    "before": f"[ -L {_HOME}/before ]",
    "switch": f"[ $(readlink -f {_HOME}/current) = $new ]",
    "restart": "[ $(systemctl is-active edge-agent) != active ]",
}
_AFTER_COMPLETE = list(_POINTS)[7:]
_SAMPLE = [("HUP", "pip"), ("INT", "before"), ("TERM", "switch"), ("KILL", "restart")]
_ALL = [(signal, point) for point in _POINTS for signal in _SIGNALS]
_IS_FULL = os.environ.get("INTERRUPTIONS") == "full"

pytestmark = pytest.mark.timeout(3600)


class Board:
    """A system whose changes stay from one boot to the next."""

    def __init__(self, root: Path, material: Path, folder: Path) -> None:
        self._root = root
        self._material = material
        self._folder = folder
        self._boots = 0

    @contextlib.contextmanager
    def booted(self) -> Iterator[Bed]:
        self._boots += 1
        with Bed(self._root, self._material, self._folder / f"boot-{self._boots}.log", keep=True) as bed:
            yield bed


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """The bundle `good` serves a model."""
    if reason := missing_for_bed():
        skip_or_fail(reason)
    folder = tmp_path_factory.mktemp("board")
    try:
        material = unpack_material(PYTHONS[_SUITE], folder)
    except FileNotFoundError as error:
        skip_or_fail(f"dist/ has no {error}: run make test-system")
    layers = {name: folder / name for name in ("upper", "work", "root")}
    for path in layers.values():
        path.mkdir()
    options = f"lowerdir={system_root(_SUITE)},upperdir={layers['upper']},workdir={layers['work']}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, layers["root"]], check=True)
    try:
        board = Board(layers["root"], material, folder)
        with board.booted() as bed:
            bed.run("/mnt/good/deploy/systemd/install.sh")
            bed.run("cp /mnt/good/demo/digits.tflite /var/lib/edge-agent/models/")
            bed.wait_for(SERVES)
        yield board
    finally:
        subprocess.run(["umount", layers["root"]], check=True)


def test_the_old_or_the_new_version_serves_after_an_interrupted_upgrade(board: Board, note: Note) -> None:
    outcomes = [_interrupt(board, signal, point) for signal, point in (_ALL if _IS_FULL else _SAMPLE)]
    kept = outcomes.count("old")
    note("interrupted upgrades, then a boot", f"{len(outcomes)}: the old version serves {kept}, the new one the rest")
    if _IS_FULL:
        with board.booted() as bed:
            bed.run(f"/mnt/{_other_bundle(bed)}/deploy/systemd/install.sh --upgrade")
            bed.wait_for(SERVES)


def _interrupt(board: Board, signal: str, point: str) -> str:
    """Returns whether the old or the new version serves after the next boot."""
    with board.booted() as bed:
        bed.wait_for(SERVES)
        old, bundle = bed.run(f"readlink -f {_HOME}/current"), _other_bundle(bed)
        new = f"{_HOME}/versions/{bed.run(VERSION.format(bundle))}"
        bed.run(f"rm -rf {new}")
        if point in _AFTER_COMPLETE:
            bed.run(f"cp -al {old} {new}")  # takes less time than pip
        upgrade = f"setsid /mnt/{bundle}/deploy/systemd/install.sh --upgrade >/tmp/upgrade 2>&1 </dev/null"
        wait = f"new={new}; until {_POINTS[point]}; do kill -0 $group || exit 1; sleep 0.01; done"
        bed.run(f"{upgrade} & group=$!\n{wait}\nkill -{signal} -- -$group; sleep 0.2")
    with board.booted() as bed:
        bed.wait_for(SERVES, timeout_s=60)
        current = bed.run(f"readlink -f {_HOME}/current")
        assert current in (old, new), (signal, point)
        assert current in bed.run(f"tr '\\0' ' ' </proc/{bed.show('MainPID')}/cmdline"), (signal, point)
        assert bed.run(f"ls {_HOME}/before 2>/dev/null || true") == "", (signal, point)
        bed.run("edge-agent check-config /etc/edge-agent/agent.yaml")
        outcome = "old" if current == old else "new"
        print(f"{signal} at {point}: {outcome}", flush=True)
        return outcome


def _other_bundle(bed: Bed) -> str:
    """The bundle whose version is not current."""
    current = bed.run(f"basename $(readlink {_HOME}/current)")
    return "next" if bed.run(VERSION.format("good")) == current else "good"

"""Checks the units, drop-ins and scripts with systemd-analyze and shellcheck, without a running systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "deploy/systemd"
DROP_INS = sorted((SYSTEMD / "drop-ins").glob("*.conf"))

_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")


@_shellcheck
def test_shellcheck_finds_no_problem_in_the_scripts() -> None:
    scripts = [
        SYSTEMD / "install.sh",
        SYSTEMD / "launcher.sh",
        *SYSTEMD.glob("install/*.sh"),
        SYSTEMD.parents[1] / ".ci/run",
    ]
    subprocess.run(["shellcheck", "--external-sources", *scripts], check=True, cwd=SYSTEMD.parents[1])


@_systemd
@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.stem if path else "none")
def test_systemd_accepts_the_unit_with_every_drop_in(tmp_path: Path, drop_in: Path | None) -> None:
    assert _analyze("verify", _unit(tmp_path, drop_in)) == ""


@_systemd
def test_systemd_accepts_the_rollback_unit(tmp_path: Path) -> None:
    unit = tmp_path / "edge-agent-go-back.service"
    unit.write_text(re.sub("(?m)^ExecStart=.*", "ExecStart=/bin/true", (SYSTEMD / unit.name).read_text()))
    assert _analyze("verify", unit) == ""


@_systemd
def test_the_exposure_is_at_most_1_5_with_a_camera(tmp_path: Path) -> None:
    assert "char-video4linux" in (SYSTEMD / "edge-agent.service").read_text()
    assert _exposure(_unit(tmp_path, None)) <= 1.5


@_systemd
def test_no_drop_in_raises_the_exposure_above_2(tmp_path: Path) -> None:
    for drop_in in DROP_INS:
        assert _exposure(_unit(tmp_path, drop_in)) <= 2, drop_in.name


@_systemd
@pytest.mark.parametrize("drop_in", sorted((SYSTEMD / "drop-ins").glob("camera-*.conf")), ids=lambda path: path.stem)
def test_the_exposure_is_at_most_1_5_with_a_camera_module(tmp_path: Path, drop_in: Path) -> None:
    assert _exposure(_unit(tmp_path, drop_in)) <= 1.5


@pytest.mark.parametrize(
    ("board", "groups", "drop_in"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0\0", 0, "camera-pi.conf"),
        ("NVIDIA Jetson Orin Nano Developer Kit\0", 0, "camera-jetson.conf"),
        ("NVIDIA Orin NX Developer Kit\0", 0, "camera-jetson.conf"),
        ("Raspberry Pi 5 Model B Rev 1.0\0", 2, None),
        ("Radxa ROCK 5B\0", 0, None),
        (None, 0, None),
    ],
)
def test_a_board_gets_the_drop_in_of_its_camera_module(
    tmp_path: Path, board: str | None, groups: int, drop_in: str | None
) -> None:
    if board is not None:
        (tmp_path / "model").write_text(board)
    installed = tmp_path / "60-camera.conf"
    installed.write_text("of another board, from which the card was moved")
    script = f"""
        data=/nowhere; source {SYSTEMD}/install/service.sh
        getent() {{ return {groups}; }}
        board={tmp_path}/model
        fit_to_board {SYSTEMD}/drop-ins {installed}
    """
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True)
    assert installed.exists() == (drop_in is not None)
    if drop_in is not None:
        assert installed.read_text() == (SYSTEMD / "drop-ins" / drop_in).read_text()


def test_the_unit_does_not_hide_cpuinfo_from_xnnpack() -> None:
    assert not re.search("^ProcSubset=", (SYSTEMD / "edge-agent.service").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ("armv7l", "Install the 64-bit image of your system."),
        ("armv6l", "There are no wheels for this machine (armv6l)."),
    ],
)
def test_an_unsupported_machine_is_refused(machine: str, words: str) -> None:
    stubs = f'fail() {{ echo "$*"; exit 1; }}; uname() {{ echo {machine}; }}; python=python3 root=/nowhere'
    script = f"{stubs}; source {SYSTEMD}/install/check.sh; check_machine"
    answer = subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=False, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (1, "")
    assert words in answer.stdout


def _unit(folder: Path, drop_in: Path | None) -> Path:
    """Copies the unit with that drop-in. `verify` rejects a command that is not installed, so ExecStart is replaced."""
    unit = folder / "edge-agent.service"
    unit.write_text(re.sub("(?m)^ExecStart=.*", "ExecStart=/bin/true", (SYSTEMD / unit.name).read_text()))
    drop_ins = folder / f"{unit.name}.d"
    shutil.rmtree(drop_ins, ignore_errors=True)
    drop_ins.mkdir()
    if drop_in is not None:
        shutil.copy(drop_in, drop_ins)
    return unit


def _exposure(unit: Path) -> float:
    output = _analyze("security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for [^:]*: ([\d.]+)", output)
    assert found is not None, output
    return float(found[1])


def _analyze(*words: str | Path) -> str:
    answer = subprocess.run(["systemd-analyze", *words], check=False, capture_output=True, text=True)
    return answer.stdout + answer.stderr

"""Kills the watch (-9) at each of its writes to the disk: what a device sees is whole, and the next start goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from watch_bed import WatchBed

from agent.security.minisign import TrustedKeys
from converter.signing import SecretKey, public_key_file, secret_key_file

pytestmark = pytest.mark.long

_SCRIPT = Path(__file__).with_name("self_killing_watch.py")
_MOST_WRITES = 60


@pytest.fixture
def key() -> SecretKey:
    return SecretKey.new()


def _watches(folder: Path, first: int, last: int) -> list[int]:
    command = [sys.executable, str(_SCRIPT), str(folder), str(first), str(last)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def _bed(folder: Path, key: SecretKey) -> WatchBed:
    """Version 1 is there already; version 2 is refused, and version 1 gets other options, so that it is replaced."""
    bed = WatchBed(folder, key=key)
    (folder / "key").write_bytes(secret_key_file(key, None))
    bed.recipe["command"] = ["sh", "-c", "ls {name}/{version} >>../sent"]
    bed.options["evaluate"] = str(folder.parent)
    bed.export(1)
    assert bed.run_once() == []
    bed.export(2, refused="It is bad.")
    bed.options["mean"] = 127.5
    bed.watcher()  # writes the recipe
    return bed


def test_a_kill_at_any_write_leaves_only_whole_files_and_no_work_undone(tmp_path: Path, key: SecretKey) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/birds.pub").write_bytes(public_key_file(key.public))
    start, whole = _bed(tmp_path / "start", key), WatchBed(tmp_path / "0", key=key)
    shutil.copytree(start.folder, whole.folder, dirs_exist_ok=True)
    before = whole.model(1).read_bytes()
    writes, code = _watches(tmp_path, 0, 0)
    after = whole.model(1).read_bytes()
    assert (code, before != after, 15 < writes < _MOST_WRITES) == (0, True, True)

    numbers = range(1, writes + 1)
    for number in numbers:
        shutil.copytree(start.folder, tmp_path / str(number))
    assert _watches(tmp_path, 1, writes) == [-signal.SIGKILL] * writes
    for bed in (WatchBed.of(tmp_path / str(number)) for number in numbers):
        assert bed.model(1).read_bytes() in (before, after)
        assert not bed.model(2).exists()
        assert bed.run_once() == ["birds 2 is refused."]
        model = bed.model(1)
        assert model.read_bytes() == after
        signature = model.with_name("model.tflite.minisig").read_bytes()
        assert TrustedKeys(tmp_path / "keys").verify(model, signature, name="model.tflite").version == 1
        assert bed.delivered == whole.delivered
        assert _names(bed.reports) == _names(whole.reports)
        assert list(bed.reports.glob(".work/*/*")) == []
        assert set((bed.folder / "sent").read_text().split()) == {"model.tflite", "model.tflite.minisig"}
        assert len(bed.calls) <= len(whole.calls) + 1


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

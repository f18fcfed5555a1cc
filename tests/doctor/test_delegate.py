from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from agents.running_agent import DIGITS

from agent.doctor.delegate import check_delegate
from agent.runtimes.interpreter import runtime

if TYPE_CHECKING:
    from pathlib import Path

_NOBODY = 65534
_NOTHING_YET = "not checked: no model was admitted yet"


def test_delegate_runs_the_newest_model(tmp_path: Path) -> None:
    os.utime(_admitted(tmp_path / "old.tflite", b"no model"), (0, 0))
    _admitted(tmp_path / "new.tflite", DIGITS.read_bytes())
    finding = check_delegate(tmp_path)
    if runtime().startswith("tflite-runtime"):  # its XNNPACK does not support int8
        assert finding.fact == "The newest model runs without XNNPACK."
    else:
        assert finding.fact == "XNNPACK runs the newest model"


def test_delegate_is_not_checked_without_a_model(tmp_path: Path) -> None:
    assert check_delegate(tmp_path / "none").fact == _NOTHING_YET
    assert check_delegate(tmp_path).fact == _NOTHING_YET


def test_delegate_is_a_warning_when_the_model_does_not_load(tmp_path: Path) -> None:
    _admitted(tmp_path / "bad.tflite", b"no model")
    assert check_delegate(tmp_path).fact == "The runtime cannot load the newest model."


def test_delegate_refuses_to_open_pipes_and_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tflite")
    assert "it is not a regular file" in check_delegate(tmp_path).fact
    (tmp_path / "a.tflite").unlink()
    (tmp_path / "a.tflite").symlink_to(DIGITS)
    assert "not checked" in check_delegate(tmp_path).fact


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_delegate_loads_a_model_as_its_owner_when_root_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(_admitted(tmp_path / "a.tflite", DIGITS.read_bytes()), _NOBODY, _NOBODY)
    used: dict[str, Any] = {}
    run = subprocess.run

    def spy(*words: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
        used.update(options)
        return run(*words, **options)

    monkeypatch.setattr(subprocess, "run", spy)
    check_delegate(tmp_path)
    assert (used["user"], used["group"], used["extra_groups"]) == (_NOBODY, _NOBODY, [])


def _admitted(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path

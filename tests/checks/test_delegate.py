from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from end_to_end.running_agent import DIGITS

from agent.checks.delegate import check_delegate

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_the_one_that_computes_the_newest_model(tmp_path: Path) -> None:
    (tmp_path / "old.tflite").write_bytes(b"no model")
    os.utime(tmp_path / "old.tflite", (0, 0))
    shutil.copy(DIGITS, tmp_path / "new.tflite")
    assert check_delegate(tmp_path).fact == "XNNPACK computes the newest model"


def test_without_a_model_nothing_is_tried(tmp_path: Path) -> None:
    assert check_delegate(tmp_path / "none").fact == "not tried: no model was admitted yet"
    assert check_delegate(tmp_path).fact == "not tried: no model was admitted yet"


def test_a_model_that_does_not_load_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    assert check_delegate(tmp_path).fact == "The runtime does not load the newest model here."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_root_does_not_load_it_as_root(tmp_path: Path) -> None:
    shutil.copy(DIGITS, tmp_path / "new.tflite")
    os.chown(tmp_path / "new.tflite", 65534, 65534)
    assert check_delegate(tmp_path).level == "ok"

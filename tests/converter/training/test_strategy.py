"""Strategy: several devices and float16 give the model of one device with float32."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trainings import write_shapes

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.long


def test_two_devices_and_float16_give_the_same_model(tmp_path: Path) -> None:
    """In a process of its own, because TensorFlow divides the processor only before it computes."""
    pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    photos = write_shapes(tmp_path / "photos", per_class=3, classes=("disk", "grid"))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, *map(str, (Path(__file__).with_name("two_devices.py"), photos, tmp_path))]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout) == (0, "equal\n"), ended.stderr[-3000:]

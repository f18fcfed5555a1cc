"""Time and memory of a conversion: MobileNetV2 224 to int8, 100 calibration and 200 evaluation images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Skipped
from benchmarks.material import CACHE, OWN_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = CACHE / "conversion"
CONVERTER = CACHE.parent / ".venv-converter" / "bin" / "edge-convert"
ROUNDS = 3
NAME = "edge-convert: MobileNetV2 224 to int8, 100 + 200 images"


def figures() -> Iterator[Figure | Skipped]:
    stated = json.loads((CACHE.parent / "demo" / "digits.json").read_text())["camera_like"]["top1"]
    lost = stated["float32"] - stated["int8"]
    yield Figure.of("demo/train.py: top-1 accuracy lost to int8, as last trained", [lost], bound=0.005)
    if not (SOURCE / "mobilenet_v2").is_dir() or not CONVERTER.exists():
        yield Skipped(NAME, "TensorFlow could not be installed")
        return
    rounds = [convert(OWN_MODEL) for _ in range(ROUNDS)]
    yield Figure.of(NAME, [seconds for seconds, _ in rounds], unit="s", bound=75)
    yield Figure.of(f"{NAME}, peak memory", [peak_gb for _, peak_gb in rounds], unit="GB", bound=3)


def convert(output: Path) -> tuple[float, float]:
    """Seconds of wall time and gigabytes of peak resident memory of the command as a user calls it."""
    started_s = time.monotonic()
    command: list[str | Path] = [CONVERTER, "convert", SOURCE / "mobilenet_v2", output, "--force"]
    command += ["--mean", "127.5", "--std", "127.5", "--labels", SOURCE / "labels.txt"]
    command += ["--calibration", SOURCE / "calibration", "--evaluate", SOURCE / "evaluation"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"edge-convert failed with exit code {process.returncode}.")
    return time.monotonic() - started_s, usage.ru_maxrss / 1e6

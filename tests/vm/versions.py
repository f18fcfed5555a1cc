"""Versions: many good models on one disk, each with its own labels."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from end_to_end.material import LABELS, digit_shown, model_file, sha256

if TYPE_CHECKING:
    from pathlib import Path


class Versions:
    """`disk` contains 0001.tflite, 0002.tflite and so on; the labels of each begin with its number."""

    def __init__(self, folder: Path, count: int) -> None:
        files = {number: model_file(number, labels=_labels(number)) for number in range(1, count + 1)}
        self._numbers = {sha256(content): number for number, content in files.items()}
        source = folder / "versions"
        source.mkdir()
        for number, content in files.items():
            (source / f"{number:04d}.tflite").write_bytes(content)
        self.disk = folder / "versions.img"
        subprocess.run(["truncate", "--size", f"{16 + count // 8}M", self.disk], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", source, self.disk], check=True)

    def number(self, sha256: str) -> int:
        return self._numbers[sha256]

    def right_answer(self, number: int) -> str:
        """The correct label of that version for digit_png()."""
        return _labels(number)[int(digit_shown(0))]


def _labels(number: int) -> tuple[str, ...]:
    return tuple(f"{number}:{label}" for label in LABELS)

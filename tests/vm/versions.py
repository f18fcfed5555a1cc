"""Versions: many good models that answer each in its own words, on a disk of their own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from end_to_end.material import LABELS, digit_shown, model_file, sha256

if TYPE_CHECKING:
    from pathlib import Path


class Versions:
    """`disk` holds 0001.tflite and so on; the answers of each begin with its number."""

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
        """What that version has to say of digit_png()."""
        return _labels(number)[int(digit_shown(0))]


def _labels(number: int) -> tuple[str, ...]:
    return tuple(f"{number}:{label}" for label in LABELS)

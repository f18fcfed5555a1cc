"""Digits: nothing like the photos of ImageNet, and yet the features of the frozen network tell them apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

DIGITS = Path(__file__).resolve().parents[2] / "demo" / "digits.py"


def test_digits_that_it_did_not_see_are_recognized_97_times_in_100(tmp_path: Path) -> None:
    """Each digit is judged once, by the head of the fold that did not train on it."""
    subprocess.run([sys.executable, DIGITS, tmp_path / "digits"], check=True)
    words = ("train", tmp_path / "digits", tmp_path / "model", "--json")
    command = [sys.executable, "-m", "converter.cli", *map(str, words)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(ended.stdout)
    print(f"accuracy on the digits held out once each: {figures['accuracy']:.4f}; one fifth: {figures['held_out']}")
    assert figures["accuracy"] >= 0.97

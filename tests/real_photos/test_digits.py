"""Digits: nothing like the photos of ImageNet, and yet the features of the frozen network tell them apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

DIGITS = Path(__file__).resolve().parents[2] / "demo" / "digits.py"


def test_digits_that_it_did_not_see_are_recognized_97_times_in_100(tmp_path: Path) -> None:
    """By the exported model and by the int8 file. Without a cross-validation, whose models are others."""
    subprocess.run([sys.executable, DIGITS, tmp_path / "digits"], check=True)
    words = ("train", tmp_path / "digits", tmp_path / "model", "--to", tmp_path / "model.tflite", "--folds", "1")
    command = [sys.executable, "-m", "converter.cli", *map(str, words), "--json"]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    document = json.loads(ended.stdout)
    source, int8 = document["conversion"]["models"][0]["evaluation"]["models"]
    print(f"exported: {document['held_out']}; SavedModel {source['top1']:.4f}, int8 {int8['top1']:.4f}")
    assert document["held_out"]["accuracy"] >= 0.97
    assert int8["top1"] >= 0.97

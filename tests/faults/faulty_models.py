"""Faulty models: they pass any trial and then misbehave on the demo's picture; see make_faulty_models.py."""

from __future__ import annotations

import functools
import shutil
import subprocess

from agents.running_agent import ROOT
from end_to_end.material import LABELS
from needs import need

from converter.packing.metadata import pack_metadata

_FOLDER = ROOT / ".cache" / "faulty-models"
_PYTHON = ROOT / ".venv-converter" / "bin" / "python"
_MAKER = ROOT / "tests" / "faults" / "make_faulty_models.py"


@functools.cache
def faulty_model(name: str) -> bytes:
    """A model file for `digits`; made if missing or older than its script. Skips the test without TensorFlow."""
    if not _FOLDER.is_dir() or _FOLDER.stat().st_mtime < _MAKER.stat().st_mtime:
        _make()
    return pack_metadata(
        (_FOLDER / f"{name}.tflite").read_bytes(),
        labels=LABELS,
        mean=[0.0],
        std=[255.0],
        color="gray",
        name="digits",
        version=name,
        additions={"settings": {"score": "probability"}},  # else the trial runs more images, and finds the fault
    )


def _make() -> None:
    maker = _PYTHON.relative_to(ROOT)
    need(_PYTHON.is_file(), f"{maker}, which makes the faulty models, is missing: make dev-converter")
    shutil.rmtree(_FOLDER, ignore_errors=True)
    subprocess.run([_PYTHON, _MAKER, _FOLDER], check=True, capture_output=True)

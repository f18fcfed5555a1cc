"""Published models: one real model of each dtype, with a photo that it classifies correctly."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Published:
    dtype: str
    folder: str
    photo: str
    tolerance: float  # quantized scores differ between processors, float32 scores do not


PUBLISHED = (
    Published("uint8", "mobilenet_v1_025_128_uint8", "burger.jpg", 0.09),
    Published("int8", "mlperf_vww_96_int8", "grace_hopper.bmp", 0.09),
    Published("float32", "mobilenet_v1_025_224_float_metadata", "sunflower.bmp", 0.01),
)


def lay_out(assets: Path, target: Path) -> None:
    """Creates `models/`, with a model and its labels named after each dtype, and `photos/`."""
    for name in ("models", "photos"):
        (target / name).mkdir(parents=True)
    for published in PUBLISHED:
        source = assets / "models" / published.folder
        shutil.copy(next(source.glob("*.tflite")), target / f"models/{published.dtype}.tflite")
        if (source / "labels.txt").exists():
            shutil.copy(source / "labels.txt", target / f"models/{published.dtype}.txt")
        shutil.copy(assets / "photos" / published.photo, target / "photos")


def assert_same_as_x86_64(published: Published, category: dict[str, Any], assets: Path) -> None:
    """Asserts that the best category is the same as on x86_64."""
    expected = json.loads((assets / "expected.json").read_text())
    model = next(model for path, model in expected.items() if path.startswith(f"{published.folder}/"))
    assert model["input"]["dtype"] == published.dtype
    reference = model["top1"][published.photo]
    assert (category["index"], category["label"]) == (reference["index"], reference["label"])
    assert category["score"] == pytest.approx(reference["score"], abs=published.tolerance)

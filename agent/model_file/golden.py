"""Golden samples: images inside a model, each with the label that the model must rank first on every device.

Those of a .tflite file are listed in its edge_agent.json, and each image is packed under the name in `file`:
{"golden": {"tolerance": 0.1, "samples": [{"file": "golden/0001.png", "label": "robin"}]}}
Those of a SavedModel are the files assets.extra/golden/<label>/<image>, with the tolerance 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError
from agent.model_file.flatbuffer import damaged
from agent.model_file.metadata import read_additions
from agent.model_file.packed_files import PackedFiles
from agent.model_file.saved_model import EXTRA
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TOLERANCE = 0.1  # of a SavedModel's
_MAX_SAMPLES = 100
_MAX_IMAGE_BYTES = 4 << 20
_MAX_BYTES = 16 << 20
_AGAIN = "Convert the model again: edge-convert convert --golden."


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """`content` is a JPEG, PNG, WebP or BMP; `file` is its name in the model file."""

    file: str
    content: bytes = field(repr=False)
    label: str


@dataclass(frozen=True, slots=True)
class GoldenSamples:
    """At least one sample; `tolerance` is the fraction of samples, 0 to 1, that may get a different label."""

    tolerance: float
    samples: tuple[GoldenSample, ...]

    @property
    def allowed(self) -> int:
        """How many samples may get a different label."""
        return int(self.tolerance * len(self.samples) + 1e-9)  # in floating point, 0.29 x 100 is below 29


def read_golden(content: bytes) -> GoldenSamples | None:
    """None if there are none. Raises ModelError if they are malformed, IncompleteModelError if an image is missing."""
    packed = PackedFiles(content)
    golden = read_additions(packed).get("golden")
    return None if golden is None else _checked(golden, packed)


def read_golden_folder(saved_model: Path) -> GoldenSamples | None:
    """Those of a SavedModel; None if there are none. Raises ModelError if they are too many or too large, OSError."""
    folder = saved_model / EXTRA / "golden"
    paths = sorted(path for path in folder.glob("*/*") if path.is_file() and not path.name.startswith("."))
    if len(paths) > _MAX_SAMPLES:
        raise ModelError(f"The SavedModel has {len(paths)} golden samples. Leave at most {_MAX_SAMPLES} of them.")
    names = ((str(path.relative_to(saved_model)), path) for path in paths)
    samples = tuple(GoldenSample(name, _read(path, name), path.parent.name) for name, path in names)
    _check_sum(samples)
    return GoldenSamples(_TOLERANCE, samples) if samples else None


def _read(path: Path, name: str) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MAX_IMAGE_BYTES + 1)
    if len(content) > _MAX_IMAGE_BYTES:
        raise ModelError(f"The golden sample {_shown(name)} is larger than {_MAX_IMAGE_BYTES >> 20} MB. Remove it.")
    return content


def _check_sum(samples: Iterable[GoldenSample]) -> None:
    if sum(len(sample.content) for sample in samples) > _MAX_BYTES:
        raise ModelError(f"The golden samples are larger than {_MAX_BYTES >> 20} MB together. Remove some of them.")


def _checked(golden: Any, packed: PackedFiles) -> GoldenSamples:
    if not isinstance(golden, dict):
        raise ModelError(f"The golden samples in the file are not a JSON object. {_AGAIN}")
    tolerance, samples = golden.get("tolerance"), golden.get("samples")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance <= 1:
        raise ModelError(f"The tolerance of the golden samples is not a number from 0 to 1. {_AGAIN}")
    if not isinstance(samples, list) or not 1 <= len(samples) <= _MAX_SAMPLES:
        raise ModelError(f"The golden samples in the file are not a list of 1 to {_MAX_SAMPLES} samples. {_AGAIN}")
    return GoldenSamples(float(tolerance), _unpacked([_names(sample) for sample in samples], packed))


def _names(sample: Any) -> tuple[str, str]:
    """The name of the image file and the label."""
    if isinstance(sample, dict):
        file, label = sample.get("file"), sample.get("label")
        if isinstance(file, str) and isinstance(label, str):
            return file, label
    raise ModelError(f"A golden sample in the file has no image file or no label. {_AGAIN}")


def _unpacked(names: list[tuple[str, str]], packed: PackedFiles) -> tuple[GoldenSample, ...]:
    samples: list[GoldenSample] = []
    left = _MAX_BYTES
    for file, label in names:
        if file not in packed.names:
            raise damaged(f"the image {_shown(file)} of a golden sample is missing")
        content = packed.read(file, max_bytes=_MAX_IMAGE_BYTES)
        left -= len(content)
        if left < 0:
            raise ModelError(f"The golden samples in the file are larger than {_MAX_BYTES >> 20} MB. {_AGAIN}")
        samples.append(GoldenSample(file, content, label))
    return tuple(samples)


def _shown(text: str) -> str:
    """Shortened, without control characters: the text comes from an untrusted file."""
    return printable(text[:100])

"""Golden samples: images inside a model file, each with the label that must come out on top wherever it runs.

In its edge_agent.json: {"golden": {"tolerance": 0.1, "samples": [{"file": "golden/0001.png", "label": "robin"}]}}; each
image is packed under the name of its `file`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.errors import ModelError
from agent.model_file.flatbuffer import damaged
from agent.model_file.metadata import read_additions
from agent.model_file.packed_files import PackedFiles
from agent.text import printable

_MAX_SAMPLES = 100
_MAX_IMAGE_BYTES = 4 << 20
_MAX_BYTES = 16 << 20
_AGAIN = "Convert the model again: edge-convert convert --golden."


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """`content` is a JPEG, PNG, WebP or BMP; `file` its name in the model file."""

    file: str
    content: bytes = field(repr=False)
    label: str


@dataclass(frozen=True, slots=True)
class GoldenSamples:
    """At least one; `tolerance` is the share of them, 0 to 1, that may be answered otherwise."""

    tolerance: float
    samples: tuple[GoldenSample, ...]

    @property
    def allowed(self) -> int:
        """How many may be answered otherwise."""
        return int(self.tolerance * len(self.samples) + 1e-9)  # 0.29 x 100 is a little less than 29


def read_golden(content: bytes) -> GoldenSamples | None:
    """None where a model file has none. ModelError for malformed ones, IncompleteModelError where an image lacks."""
    packed = PackedFiles(content)
    golden = read_additions(packed).get("golden")
    return None if golden is None else _checked(golden, packed)


def _checked(golden: Any, packed: PackedFiles) -> GoldenSamples:
    if not isinstance(golden, dict):
        raise ModelError(f"The golden samples of the file are no JSON object. {_AGAIN}")
    tolerance, samples = golden.get("tolerance"), golden.get("samples")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance <= 1:
        raise ModelError(f"The tolerance of the golden samples is no number of 0 to 1. {_AGAIN}")
    if not isinstance(samples, list) or not 1 <= len(samples) <= _MAX_SAMPLES:
        raise ModelError(f"The golden samples of the file are no list of 1 to {_MAX_SAMPLES}. {_AGAIN}")
    return GoldenSamples(float(tolerance), _unpacked([_names(sample) for sample in samples], packed))


def _names(sample: Any) -> tuple[str, str]:
    """The file and the label."""
    if isinstance(sample, dict):
        file, label = sample.get("file"), sample.get("label")
        if isinstance(file, str) and isinstance(label, str):
            return file, label
    raise ModelError(f"A golden sample of the file does not name its file and its label. {_AGAIN}")


def _unpacked(names: list[tuple[str, str]], packed: PackedFiles) -> tuple[GoldenSample, ...]:
    samples: list[GoldenSample] = []
    left = _MAX_BYTES
    for file, label in names:
        if file not in packed.names:
            raise damaged(f"it names {_shown(file)}, which is missing at the end of the file")
        content = packed.read(file, max_bytes=_MAX_IMAGE_BYTES)
        left -= len(content)
        if left < 0:
            raise ModelError(f"The golden samples of the file have more than {_MAX_BYTES >> 20} MB. {_AGAIN}")
        samples.append(GoldenSample(file, content, label))
    return tuple(samples)


def _shown(text: str) -> str:
    """Of a file that anybody may have written: short, and without what would steer a terminal."""
    return printable(text[:100])

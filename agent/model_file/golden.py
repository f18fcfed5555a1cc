"""Golden samples: images inside a model file, each with the label that must come out on top wherever it runs.

In its edge_agent.json: {"golden": {"tolerance": 0.1, "samples": [{"file": "golden/0001.png", "label": "robin"}]}}; each
image is packed under the name of its `file`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import ImageError, ModelError
from agent.image import decode
from agent.model_file.flatbuffer import DamagedError
from agent.model_file.metadata import damage_reported, read_additions
from agent.model_file.packed_files import PackedFiles
from agent.text import printable

if TYPE_CHECKING:
    from agent.runtimes.classifier import Classifier

_MAX_SAMPLES = 100
_MAX_IMAGE_BYTES = 4 << 20
_MAX_BYTES = 16 << 20
_MAX_PIXELS = 1 << 24
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


@dataclass(frozen=True, slots=True)
class GoldenAnswers:
    """What a classifier said: `otherwise` has a clause for each sample that it did not answer with its label."""

    golden: GoldenSamples
    otherwise: tuple[str, ...]

    @property
    def fails(self) -> bool:
        return len(self.otherwise) > self.golden.allowed

    @property
    def verdict(self) -> str:
        """In a sentence, with the first three that were answered otherwise."""
        count, allowed = len(self.golden.samples), self.golden.allowed
        answered = "is" if len(self.otherwise) == 1 else "are"
        return (
            f"{len(self.otherwise)} of {count} golden samples {answered} answered otherwise than the file says, and "
            f"{allowed or 'none'} may be: {', '.join(self.otherwise[:3])}."
        )


def read_golden(content: bytes) -> GoldenSamples | None:
    """None where a model file has none. ModelError for malformed ones, IncompleteModelError where an image lacks."""
    with damage_reported():
        packed = PackedFiles(content)
        golden = read_additions(packed).get("golden")
        return None if golden is None else _checked(golden, packed)


def check_golden(golden: GoldenSamples, classifier: Classifier) -> tuple[int, int]:
    """How many agree, and of how many. ModelError when more disagree than may, or when an image does not decode."""
    answers = ask_golden(golden, classifier)
    if answers.fails:
        raise ModelError(
            f"{answers.verdict} Check labels, mean, std and color in the sidecars and the configuration; if they are "
            "right, the runtime here computes the model differently: convert it for this one, edge-convert convert "
            "--target."
        )
    count = len(golden.samples)
    return count - len(answers.otherwise), count


def ask_golden(golden: GoldenSamples, classifier: Classifier) -> GoldenAnswers:
    """Classifies each as the engine does an upload. ModelError as scores(), and when an image does not decode."""
    said = (_said_otherwise(sample, classifier) for sample in golden.samples)
    return GoldenAnswers(golden, tuple(words for words in said if words is not None))


def _said_otherwise(sample: GoldenSample, classifier: Classifier) -> str | None:
    try:
        image = decode(sample.content, max_pixels=_MAX_PIXELS, smallest_side=classifier.longest_side)
    except ImageError as error:
        raise ModelError(f"The golden sample {_shown(sample.file)} cannot be used: {error} {_AGAIN}") from error
    scores, _ = classifier.scores(image)
    (best,) = scores.best(1)
    if best.label == sample.label:
        return None
    return f"{_shown(sample.file)} gave {_shown(best.label)} ({best.score:.2f}) instead of {_shown(sample.label)}"


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
            raise DamagedError(f"it names {_shown(file)}, which is missing at the end of the file")
        content = packed.read(file, max_bytes=_MAX_IMAGE_BYTES)
        left -= len(content)
        if left < 0:
            raise ModelError(f"The golden samples of the file have more than {_MAX_BYTES >> 20} MB. {_AGAIN}")
        samples.append(GoldenSample(file, content, label))
    return tuple(samples)


def _shown(text: str) -> str:
    """Of a file that anybody may have written: short, and without what would steer a terminal."""
    return printable(text[:100])

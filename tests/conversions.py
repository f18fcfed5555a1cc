"""Conversions for tests: calls of converter.conversion, and the scores of source and finished files."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.errors import AgentError
from agent.image import Image, decode
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.interpreter import open_interpreter
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.saved_model import TensorFlowClassifier, image_function
from converter.conversion import convert
from converter.request import Request
from converter.source.source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from agent.runtimes.classifier import Classifier
    from converter.conversion import Conversion
    from converter.progress import T
    from converter.quantization import Scheme

    Floats: TypeAlias = npt.NDArray[np.float32]

SCHEMES: tuple[Scheme, ...] = ("int8", "int8-float", "float16", "dynamic", "none")
EXACT = 1e-3  # between a source and its float32 file
QUANTIZED = 0.09  # different kernels alone can cause as much
TOLERANCE: dict[Scheme, float] = {
    "int8": QUANTIZED,
    "int8-float": QUANTIZED,
    "float16": 0.01,
    "dynamic": QUANTIZED,
    "none": EXACT,
}

# TensorFlow's warning in every int8 conversion, and NumPy's when Keras saves a .keras file.
QUIET = ("ignore:Statistics for quantized inputs:UserWarning", "ignore:__array__ implementation:DeprecationWarning")


class Untracked:
    """A Track that shows nothing."""

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        return items

    def step(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()


untracked = Untracked()


def converted(source: Path, output: Path, *schemes: Scheme, **changes: Any) -> Conversion:
    """Convert and write a model that takes 0..1, unless `changes` say otherwise."""
    values: dict[str, Any] = {"mean": (0.0,), "std": (255.0,), "name": "test"}
    conversion = convert(Request(source=source, output=output, schemes=schemes, **values | changes), track=untracked)
    conversion.write()
    return conversion


def contents(conversion: Conversion) -> dict[Scheme, bytes]:
    """The written files, by scheme."""
    return {model.scheme: model.path.read_bytes() for model in conversion.models if model.refusal is None}


def finished_classifier(content: bytes) -> Classifier:
    file = read_model_file(content)
    (classifier,) = open_classifiers(file, file.settings, workers=1, threads=1)
    return classifier


def names(content: bytes) -> tuple[str, str]:
    """Of the input and output, as the runtime gives them to its callers."""
    interpreter: Any = open_interpreter(content, threads=1)
    signatures = interpreter.get_signature_list()
    assert list(signatures) == ["serving_default"]
    ((input_name,), (output_name,)) = (signatures["serving_default"][side] for side in ("inputs", "outputs"))
    return input_name, output_name


def source_classifier(source: Path, labels: Iterable[str], **settings: Any) -> TensorFlowClassifier:
    """For a source that takes 0..1 and returns probabilities, unless `settings` say otherwise."""
    values: dict[str, Any] = {"mean": (0.0,), "std": (255.0,), "score": "probability", "labels": tuple(labels)}
    return TensorFlowClassifier(
        image_function(open_source(source), key=None, size=None), ModelSettings(**values | settings)
    )


def scores(classifier: Classifier, images: Iterable[Image]) -> Floats:
    """Images x labels."""
    return np.stack([classifier.scores(image)[0].probabilities for image in images])


def readable_images(folder: Path) -> dict[str, Image]:
    """Images of a folder and its subfolders, by path, without those that cannot be decoded."""
    images = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with suppress(AgentError):
            images[str(path.relative_to(folder))] = decode(path.read_bytes(), smallest_side=224)
    return images


def largest_difference(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).max())


def write_labels(path: Path, labels: Iterable[str]) -> Path:
    path.write_text("".join(f"{label}\n" for label in labels))
    return path

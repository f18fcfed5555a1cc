"""Golden samples: checks whether a classifier gives each the label that the model file states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import ImageError, ModelError
from agent.image import decode
from agent.text import printable

if TYPE_CHECKING:
    from agent.model_file.golden import GoldenSample, GoldenSamples
    from agent.runtimes.classifier import Classifier

_MAX_PIXELS = 1 << 24


@dataclass(frozen=True, slots=True)
class GoldenAnswers:
    """What a classifier answered: `otherwise` has a clause for each sample that got a different label."""

    golden: GoldenSamples
    otherwise: tuple[str, ...]

    @property
    def fails(self) -> bool:
        return len(self.otherwise) > self.golden.allowed

    @property
    def verdict(self) -> str:
        """A sentence with the first three samples that got a different label."""
        count, allowed = len(self.golden.samples), self.golden.allowed
        return (
            f"{len(self.otherwise)} of {count} golden samples got a different label than expected "
            f"(at most {allowed} allowed): {', '.join(self.otherwise[:3])}."
        )


def check_golden(golden: GoldenSamples, classifier: Classifier) -> None:
    """Raises ModelError if more samples get a different label than allowed, or if an image cannot be decoded."""
    answers = ask_golden(golden, classifier)
    if answers.fails:
        raise ModelError(
            f"{answers.verdict} Check labels, mean, std and color in the sidecars and the configuration. If they are "
            "correct, this device's runtime computes the model differently: convert the model for this runtime, "
            "edge-convert convert --target."
        )


def ask_golden(golden: GoldenSamples, classifier: Classifier) -> GoldenAnswers:
    """Classifies each as the engine does an upload. Raises ModelError as scores(), and if an image is unreadable."""
    clauses = (_disagreement(sample, classifier) for sample in golden.samples)
    return GoldenAnswers(golden, tuple(clause for clause in clauses if clause is not None))


def _disagreement(sample: GoldenSample, classifier: Classifier) -> str | None:
    try:
        image = decode(sample.content, max_pixels=_MAX_PIXELS, smallest_side=classifier.smallest_side)
    except ImageError as error:
        raise ModelError(
            f"The golden sample {_shown(sample.file)} cannot be used: {error} "
            "Convert the model again: edge-convert convert --golden."
        ) from error
    scores, _ = classifier.scores(image)
    (best,) = scores.best(1)
    if best.label == sample.label:
        return None
    return f"{_shown(sample.file)} gave {_shown(best.label)} ({best.score:.2f}) instead of {_shown(sample.label)}"


def _shown(text: str) -> str:
    """Shortened, without control characters: the text comes from an untrusted file."""
    return printable(text[:100])

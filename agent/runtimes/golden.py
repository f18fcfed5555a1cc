"""Golden samples put to a classifier: whether it gives each the label that the model file states."""

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


def check_golden(golden: GoldenSamples, classifier: Classifier) -> None:
    """Raises ModelError when more samples disagree than may, or when an image does not decode."""
    answers = ask_golden(golden, classifier)
    if answers.fails:
        raise ModelError(
            f"{answers.verdict} Check labels, mean, std and color in the sidecars and the configuration; if they are "
            "right, the runtime here computes the model differently: convert it for this one, edge-convert convert "
            "--target."
        )


def ask_golden(golden: GoldenSamples, classifier: Classifier) -> GoldenAnswers:
    """Classifies each as the engine does an upload. ModelError as scores(), and when an image does not decode."""
    clauses = (_disagreement(sample, classifier) for sample in golden.samples)
    return GoldenAnswers(golden, tuple(clause for clause in clauses if clause is not None))


def _disagreement(sample: GoldenSample, classifier: Classifier) -> str | None:
    try:
        image = decode(sample.content, max_pixels=_MAX_PIXELS, smallest_side=classifier.longest_side)
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
    """Short, since anybody may have written the file."""
    return printable(text[:100])

"""Answers: what each of several models says about the images of a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.errors import NotFiniteError
from agent.runtimes.temperature import log_odds, log_probabilities
from converter.errors import ImagesError
from converter.evaluation.figures import confusion_of
from converter.evaluation.temperature import Outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from agent.image import Image
    from agent.runtimes.classifier import Classifier
    from agent.runtimes.scores import Scores
    from converter.images.image_folder import FoundImage, ImageFolder
    from converter.progress import Track

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to evaluate: `name` for people, `size_bytes` on disk."""

    name: str
    size_bytes: int
    classifier: Classifier


@dataclass(frozen=True)
class Answers:
    """The answers of one model to n images: `scores` is n x labels, 0 to 1; `invoke_ms` has one value per image.

    `logits` is n x labels for a model that ends in logits; `step` is the quantization step of other scores.
    """

    name: str
    ran_on: str
    size_bytes: int
    scores: Floats
    invoke_ms: Floats
    logits: Floats | None = None
    step: float = 0.0
    are_independent: bool = False

    def outputs(self) -> Outputs:
        """For scores without a temperature."""
        logits = self.logits
        if logits is None:
            logits = (log_odds if self.are_independent else log_probabilities)(self.scores, self.step)
        return Outputs(self.scores, logits, self.are_independent)

    def at(self, temperature: float, *, are_independent: bool) -> Answers:
        """With the scores at `temperature`."""
        plain = replace(self, are_independent=are_independent)
        return replace(plain, scores=plain.outputs().at(temperature))

    @cached_property
    def best(self) -> Ints:
        best: Ints = self.scores.argmax(axis=1)
        return best

    def accuracy(self, truth: Ints, *, among: int) -> float:
        """The share of images whose true class is among the `among` best scores; ties count by index."""
        order = (-self.scores).argsort(axis=1, kind="stable")[:, :among]
        return float((order == truth[:, None]).any(axis=1).mean())

    def confusion(self, truth: Ints) -> Ints:
        return confusion_of(truth, self.best, labels=self.scores.shape[1])


def classify(
    subjects: Sequence[Subject], folder: ImageFolder, track: Track
) -> tuple[tuple[FoundImage, ...], tuple[str, ...], list[Answers]]:
    """The readable images, the reasons why the others are not, and the answers of each subject."""
    images: list[FoundImage] = []
    left_out: list[str] = []
    rows: list[list[tuple[Scores | None, float]]] = [[] for _ in subjects]
    smallest_side = max(subject.classifier.smallest_side for subject in subjects)
    sought = track(folder.images, "Evaluating")
    for found, image in folder.decode(sought, smallest_side=smallest_side, left_out=left_out):
        images.append(found)
        for row, subject in zip(rows, subjects, strict=True):
            row.append(_all_scores(subject.classifier, image))
    if not images:
        raise ImagesError(f"None of the {len(left_out)} images in {folder.root} can be read: {left_out[0]}.")
    answers = [_answers(subject, row) for subject, row in zip(subjects, rows, strict=True)]
    return tuple(images), tuple(left_out), answers


def _all_scores(classifier: Classifier, image: Image) -> tuple[Scores | None, float]:
    """The scores, or None if one of them is not finite, and the time of the invoke."""
    try:
        scores, spent = classifier.scores(image)
    except NotFiniteError:
        return None, np.nan
    return scores, spent.invoke


def _answers(subject: Subject, row: Sequence[tuple[Scores | None, float]]) -> Answers:
    missing = np.full(len(subject.classifier.labels), np.nan, np.float32)
    every = [scores for scores, _ in row]
    form = next((scores for scores in every if scores is not None), None)
    logits = None
    if form is not None and form.are_logits:
        logits = np.stack([missing if scores is None else scores.logits for scores in every]).astype(np.float32)
    return Answers(
        name=subject.name,
        ran_on=subject.classifier.ran_on,
        size_bytes=subject.size_bytes,
        scores=np.stack([missing if scores is None else scores.probabilities for scores in every]),
        invoke_ms=np.asarray([invoke_ms for _, invoke_ms in row], np.float32),
        logits=logits,
        step=form.step if form is not None else 0.0,
        are_independent=form is not None and form.are_independent,
    )

"""Evaluation: answers of models on a folder of images, compared with its labels and with each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from converter.errors import ImagesError
from converter.evaluation.answers import classify
from converter.evaluation.calibration_error import reliability
from converter.evaluation.figures import class_figures
from converter.evaluation.fitted_scores import fit_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from converter.evaluation.answers import Answers, Subject
    from converter.evaluation.calibration_error import Reliability
    from converter.evaluation.fitted_scores import FittedScores
    from converter.evaluation.unknown import UnknownThreshold
    from converter.images.image_folder import FoundImage, ImageFolder
    from converter.progress import Track

    Flags: TypeAlias = npt.NDArray[np.bool_]
    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """`truth` has one index into `labels` per image: from its folder or, if `labeled` is False, from the source.

    `answers` has the finished model last and, if there is one, its source first. `others` are the finished model's
    answers to images of other things than the labels, and `unknown` what its threshold does to them. `fitted` is what
    was fitted to the finished model's scores; both models then have the scores at its temperature. `trained_on` says
    of each image whether the source was trained on it, or is None if that is not known.
    """

    folder: ImageFolder
    labels: tuple[str, ...]
    images: tuple[FoundImage, ...]
    left_out: tuple[str, ...]
    labeled: bool
    truth: Ints
    answers: tuple[Answers, ...]
    others: Answers | None = None
    unknown: UnknownThreshold | None = None
    fitted: FittedScores | None = None
    trained_on: Flags | None = None

    @property
    def fresh(self) -> Flags:
        """The images that the source was not trained on, as far as it says so."""
        return np.ones(len(self.images), np.bool_) if self.trained_on is None else ~self.trained_on

    @property
    def model(self) -> Answers:
        return self.answers[-1]

    @property
    def source(self) -> Answers | None:
        return self.answers[0] if len(self.answers) > 1 else None

    @property
    def drop(self) -> float:
        """The top-1 accuracy of the source minus that of the model; 0 without a source."""
        if self.source is None:
            return 0.0
        lost = self.source.accuracy(self.truth, among=1) - self.model.accuracy(self.truth, among=1)
        return round(lost, 9)  # 0.9 - 0.89 is a little more than 0.01

    @property
    def broken(self) -> str | None:
        """A sentence if a model returned scores that are not finite; no figure is meaningful then."""
        if self.others is not None and not np.isfinite(self.others.scores).all():
            return f"{self.others.name} returns scores that are not numbers (NaN) for images of other things."
        for answers in self.answers:
            images = np.flatnonzero(~np.isfinite(answers.scores).all(axis=1))
            if images.size:
                first = self.folder.name_of(self.images[images[0]])
                return (
                    f"{answers.name} returns scores that are not numbers (NaN) for {images.size} images, "
                    f"first for {first}."
                )
        return None

    @property
    def source_top1(self) -> float | None:
        return None if self.source is None else self.source.accuracy(self.truth, among=1)

    @property
    def source_guesses(self) -> bool:
        """Whether the source is hardly better than a model that always answers the most frequent class."""
        if self.source_top1 is None or not self.labeled or len(np.unique(self.truth)) < 2:
            return False
        most_frequent = float(np.bincount(self.truth).max() / len(self.truth))
        return self.source_top1 <= most_frequent + 0.1 * (1 - most_frequent)

    @property
    def agreement(self) -> float | None:
        """The share of images for which both give the same best answer."""
        return None if self.source is None else float((self.source.best == self.model.best).mean())

    @property
    def changed(self) -> tuple[int, ...]:
        """Indices of the images whose best answer changed, highest score of the source first."""
        if self.source is None:
            return ()
        numbers = np.flatnonzero(self.source.best != self.model.best)
        surest = self.source.scores[numbers, self.source.best[numbers]]
        return tuple(numbers[np.argsort(-surest, kind="stable")].tolist())

    @property
    def largest_difference(self) -> tuple[float, int, int] | None:
        """The largest difference between two scores, with the image and the label where it occurs."""
        if self.source is None:
            return None
        differences = np.abs(self.source.scores - self.model.scores)
        image, label = np.unravel_index(differences.argmax(), differences.shape)
        return float(differences[image, label]), int(image), int(label)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence or two."""
        count = len(self.images)
        images = f"{count} {'labeled ' if self.labeled else ''}image{'' if count == 1 else 's'}"
        if not self.labeled:
            return (
                f"On {images}, the finished model and the source agree on {percent(self.agreement)}. "
                "There are no class folders, so the source's answers count as correct."
            )
        model = percent(self.model.accuracy(self.truth, among=1))
        if self.source is None:
            return f"On {images}, the finished model is {model} correct."
        return (
            f"On {images}, the finished model is {model} correct and the source {percent(self.source_top1)}: "
            f"{_points(self.drop)}. They agree on {percent(self.agreement)}."
        )

    @cached_property
    def figures(self) -> tuple[dict[str, Any], ...]:
        """The main figures of each model, as JSON, in the order of `answers`."""
        return tuple(
            {
                "name": answers.name,
                "ran_on": answers.ran_on,
                "bytes": answers.size_bytes,
                "top1": answers.accuracy(self.truth, among=1),
                "top5": answers.accuracy(self.truth, among=5),
                "macro_f1": class_figures(answers.confusion(self.truth)).macro_f1,
                "invoke_ms": {
                    "median": round(float(np.median(answers.invoke_ms)), 3),
                    "p95": round(float(np.percentile(answers.invoke_ms, 95)), 3),
                },
            }
            for answers in self.answers
        )

    @property
    def reliability(self) -> Reliability | None:
        """Of the finished model on labeled images that nothing was fitted to; None if there are none."""
        if not self.labeled or not self.fresh.any():
            return None
        if self.fitted is None:
            return reliability(self.model.scores[self.fresh], self.truth[self.fresh])
        return self.fitted.after if self.fitted.temperature and self.fitted.after else self.fitted.before

    @property
    def training_note(self) -> str | None:
        """A sentence, if the figures are too good because the source was trained on some of the labeled images."""
        seen, every = int((~self.fresh).sum()), len(self.images)
        if not self.labeled or not seen:
            return None
        which = f"All {every}" if seen == every else f"{seen} of the {every}"
        used = "none of them counts" if seen == every else "only the others count"
        return (
            f"{which} images in {self.folder.root} were used to train the model, which recognizes them better than "
            f"new ones: expect more mistakes than here. For a temperature and a threshold, {used}."
        )

    @property
    def score_sentences(self) -> tuple[str, ...]:
        """How far the scores can be trusted, for people."""
        if self.fitted is not None:
            return self.fitted.sentences
        error = () if self.reliability is None else (f"The calibration error is {self.reliability.error:.3f}.",)
        return error if self.unknown is None else (*error, f"{self.unknown}.")

    def with_fitted_scores(self) -> Evaluation:
        """With a temperature and a threshold for the finished model, if there are fresh and labeled images."""
        if not self.labeled or not self.fresh.any():
            return self
        outputs, others = self.model.outputs().only(self.fresh), self.others.outputs() if self.others else None
        fitted = fit_scores(outputs, self.truth[self.fresh], others)
        answers = self.answers
        if fitted.temperature is not None:
            kind = self.model.are_independent
            answers = tuple(each.at(fitted.temperature, are_independent=kind) for each in answers)
        return replace(self, answers=answers, fitted=fitted, unknown=fitted.unknown)

    def with_size(self, size_bytes: int) -> Evaluation:
        """A copy in which the finished model has `size_bytes`."""
        return replace(self, answers=(*self.answers[:-1], replace(self.model, size_bytes=size_bytes)))

    def summary(self) -> dict[str, Any]:
        """The figures that are packed into the model file."""
        difference = self._largest_difference_to_json() or {}
        models = [{name: model[name] for name in ("top1", "top5", "macro_f1")} for model in self.figures]
        return {
            "images": len(self.images),
            "labelled": self.labeled,  # codespell:ignore labelled
            "drop": round(self.drop, 6),
            "agreement": self.agreement,
            "largest_score_difference": {name: difference.get(name) for name in ("value", "label")},
            **dict(zip(("source", "model"), models, strict=True)),
            "calibration_error": None if self.reliability is None else round(self.reliability.error, 6),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder.root),
            "images": len(self.images),
            "labelled": self.labeled,  # codespell:ignore labelled
            "left_out": list(self.left_out),
            "trained_on": None if self.trained_on is None else int(self.trained_on.sum()),
            "labels": list(self.labels),
            "models": [
                figures | self._details(answers) for figures, answers in zip(self.figures, self.answers, strict=True)
            ],
            "drop": round(self.drop, 6),
            "agreement": self.agreement,
            "largest_score_difference": self._largest_difference_to_json(),
            "changed": [self._changed_to_json(number) for number in self.changed],
            "calibration": None if self.reliability is None else self.reliability.to_json(),
            "unknown": None if self.unknown is None else self.unknown.to_json(),
            "fitted": None if self.fitted is None else self.fitted.to_json(),
        }

    def _details(self, answers: Answers) -> dict[str, Any]:
        confusion = answers.confusion(self.truth)
        figures = class_figures(confusion)
        return {
            "classes": [
                {
                    "label": self.labels[index],
                    "images": int(figures.images[index]),
                    "precision": float(figures.precision[index]),
                    "recall": float(figures.recall[index]),
                    "f1": float(figures.f1[index]),
                }
                for index in figures.occurring.tolist()
            ],
            "confusion": [
                {"true": self.labels[true], "answer": self.labels[answer], "images": int(confusion[true, answer])}
                for true, answer in np.argwhere(confusion).tolist()
            ],
        }

    def _largest_difference_to_json(self) -> dict[str, Any] | None:
        if self.largest_difference is None:
            return None
        difference, image, label = self.largest_difference
        return {"value": difference, "image": self.folder.name_of(self.images[image]), "label": self.labels[label]}

    def _changed_to_json(self, number: int) -> dict[str, Any]:
        answers = {
            role: {"label": self.labels[best := int(model.best[number])], "score": float(model.scores[number, best])}
            for role, model in zip(("source", "model"), self.answers, strict=True)
        }
        true = {"true": self.labels[self.truth[number]]} if self.labeled else {}
        return {"image": self.folder.name_of(self.images[number]), **true, **answers}


def evaluate(
    models: Sequence[Subject],
    folder: ImageFolder,
    *,
    source: Subject | None = None,
    unknown: ImageFolder | None = None,
    track: Track,
) -> tuple[Evaluation, ...]:
    """Classify every image with every model, and once with their common `source`: one Evaluation per model.

    The models also classify `unknown`, images of other things. All use the agent's classifier. Raises ImagesError if
    no image can be read or a subfolder matches no label, ModelError if a runtime fails.
    """
    labels = models[0].classifier.labels
    truth = folder.truth(labels)
    if truth is None and source is None:
        raise ImagesError(
            f"{folder.root} has no class folders, so the correct answers are unknown. Make one folder per class, "
            "or compare with the source: --source SAVED_MODEL."
        )
    images, left_out, answers = classify([source, *models] if source else models, folder, track)
    others: Sequence[Answers | None] = [None] * len(models)
    if unknown is not None:
        _, left_out_of_others, others = classify(models, unknown, track)
        left_out += left_out_of_others
    indices = dict(zip(folder.images, truth, strict=True)) if truth is not None else {}
    return tuple(
        Evaluation(
            folder=folder,
            labels=labels,
            images=images,
            left_out=left_out,
            labeled=truth is not None,
            truth=answers[0].best if truth is None else np.asarray([indices[image] for image in images]),
            answers=(answers[0], answer) if source else (answer,),
            others=of_others,
        )
        for answer, of_others in zip(answers[1 if source else 0 :], others, strict=True)
    )


def percent(share: float | None) -> str:
    """With one decimal; 100.0 % only if `share` is 1. Empty for None."""
    if share is None:
        return ""
    return "over 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def _points(drop: float) -> str:
    points = abs(100 * drop)
    if points < 1e-6:
        return "nothing lost"
    return f"{'under 0.1' if points < 0.05 else f'{points:.1f}'} percentage points {'lost' if drop > 0 else 'gained'}"

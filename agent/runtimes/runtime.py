"""Runtime: the only place that chooses which runtime computes a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.runtimes.probe import probe
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.classifier import Classifier
    from agent.runtimes.score_kind import SeenScores


def open_classifiers(
    model: ModelFile, settings: ModelSettings, *, workers: int, threads: int, seen: SeenScores | None = None
) -> tuple[Classifier, ...]:
    """One classifier per worker, not warmed up; each computes with `threads` threads.

    If the settings do not say enough about the scores, `seen` decides, or a probe of the model if it is None or about
    another output than the settings now choose. Raises ModelError with the remedy if the model is not an image
    classifier or the runtime refuses it.
    """
    classifiers = tuple(TFLiteClassifier(model, settings, threads=threads) for _ in range(workers))
    if classifiers[0].is_undecided:
        if seen is None or seen.output != classifiers[0].output_index:
            seen = probe(classifiers[0])
        for classifier in classifiers:
            classifier.decide_score(seen)
    return classifiers

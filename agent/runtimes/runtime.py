"""Runtime: the only place that chooses which runtime computes a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.classifier import Classifier


def open_classifiers(
    model: ModelFile, settings: ModelSettings, *, workers: int, threads: int
) -> tuple[Classifier, ...]:
    """One classifier per worker, not warmed up; each computes with `threads` threads.

    Raises ModelError with the remedy if the model is not an image classifier or the runtime refuses it.
    """
    return tuple(TFLiteClassifier(model, settings, threads=threads) for _ in range(workers))

"""Runtime: the only place that chooses which runtime computes a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model_file.saved_model import SavedModelFolder
from agent.runtimes.edge_tpu import edge_tpu_library, needs_edge_tpu
from agent.runtimes.edge_tpu_classifier import EdgeTpu, EdgeTpuClassifier
from agent.runtimes.probe import probe
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from agent.model_file.model import Model
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.classifier import Classifier
    from agent.runtimes.score_kind import SeenScores
    from agent.runtimes.selection import Wanted


def open_classifiers(
    model: Model,
    settings: ModelSettings,
    *,
    workers: int,
    threads: int,
    seen: SeenScores | None = None,
    accelerator: Wanted = "cpu",
) -> tuple[Classifier, ...]:
    """One classifier per worker, not warmed up; each computes with `threads` threads.

    `accelerator` matters only for a model that is compiled for an Edge TPU.

    If the settings do not say enough about the scores, `seen` decides, or a probe of the model if it is None or about
    another output than the settings now choose. Raises ModelError with the remedy if the model is not an image
    classifier or the runtime refuses it.
    """
    classifiers: tuple[Classifier, ...]
    if isinstance(model, SavedModelFolder):
        classifiers = _with_tensorflow(model, settings, workers)
    elif accelerator in ("auto", "edgetpu") and needs_edge_tpu(model) and (library := edge_tpu_library()):
        tpu = EdgeTpu(model, library=library)
        classifiers = tuple(EdgeTpuClassifier(model, settings, tpu) for _ in range(workers))
    else:
        classifiers = tuple(TFLiteClassifier(model, settings, threads=threads) for _ in range(workers))
    if classifiers[0].is_undecided:
        if seen is None or seen.output != classifiers[0].output_index:
            seen = probe(classifiers[0])
        for classifier in classifiers:
            classifier.decide_score(seen)
    return classifiers


def _with_tensorflow(model: SavedModelFolder, settings: ModelSettings, workers: int) -> tuple[Classifier, ...]:
    """They share one function: TensorFlow can run it in several threads at the same time."""
    from agent.runtimes.saved_model import (  # noqa: PLC0415  (imports nothing heavy before it opens a model)
        TensorFlowClassifier,
        image_function,
        open_saved_model,
    )

    counts = (len(settings.labels),) if settings.labels else ()
    trained = open_saved_model(model.path)
    function = image_function(trained, key=None, size=None, output=settings.output, counts=counts)
    return tuple(TensorFlowClassifier(function, settings) for _ in range(workers))

"""Runtime: the only place that chooses which runtime computes a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model_file.saved_model import SavedModelFolder
from agent.model_file.warmup_requests import read_warmup_requests
from agent.runtimes.edge_tpu import edge_tpu_library, needs_edge_tpu
from agent.runtimes.edge_tpu_classifier import EdgeTpu, EdgeTpuClassifier
from agent.runtimes.probe import probe
from agent.runtimes.saved_classifier import SavedModelClassifier, SharedFunction
from agent.runtimes.saved_function import open_function
from agent.runtimes.tensorflow import TensorFlowOptions
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from agent.model_file.model import Model
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.classifier import Classifier
    from agent.runtimes.saved_classifier import BatchLimits
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
    tensorflow: TensorFlowOptions = TensorFlowOptions(),  # noqa: B008  (frozen)
    batches: BatchLimits | None = None,
) -> tuple[Classifier, ...]:
    """One classifier per worker, not warmed up; each computes with `threads` threads.

    `accelerator` matters only for a model that is compiled for an Edge TPU.

    If the settings do not say enough about the scores, `seen` decides, or a probe of the model if it is None or about
    another output than the settings now choose. Raises ModelError with the remedy if the model is not an image
    classifier or the runtime refuses it.

    `tensorflow` and `batches` are for SavedModels; without `batches`, they compute one image at a time.
    """
    classifiers: tuple[Classifier, ...]
    if isinstance(model, SavedModelFolder):
        classifiers = _with_tensorflow(model, settings, workers, tensorflow, batches)
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


def _with_tensorflow(
    model: SavedModelFolder,
    settings: ModelSettings,
    workers: int,
    options: TensorFlowOptions,
    batches: BatchLimits | None,
) -> tuple[Classifier, ...]:
    """They share one function: TensorFlow can run it in several threads at the same time."""
    function = open_function(model.path, options)
    shared = SharedFunction(function, batches, requests=lambda: read_warmup_requests(model.path))
    return tuple(SavedModelClassifier(shared, settings) for _ in range(workers))

"""Inference: how many images, with which labels and outcomes, and how long they took."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

from agent.classification import UPLOAD
from agent.errors import BusyError, ImageError, ModelNotFoundError, TensorError
from agent.listeners import Listener

if TYPE_CHECKING:
    from agent.classification import ModelIdentity, Result, Spot
    from agent.errors import AgentError

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_OUTCOMES = (  # or ok, or error
    (BusyError, "busy"),
    (ImageError, "bad_image"),
    (TensorError, "bad_tensor"),
    (ModelNotFoundError, "no_model"),
)


class InferenceMetrics(Listener):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._duration = Histogram(
            "edge_agent_inference_duration_seconds",
            "Time to classify an image, by stage (decode, preprocess, invoke, total).",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._inferences = Counter(
            "edge_agent_inferences",
            "Images and tensors to classify, by source (upload or the camera) and outcome (ok, busy, bad_image, "
            "bad_tensor, no_model, error).",
            ("model", "source", "outcome"),
            registry=registry,
        )
        self._predictions = Counter(
            "edge_agent_predictions", "Images by their best label.", ("model", "label"), registry=registry
        )
        self._score = Histogram(
            "edge_agent_prediction_score",
            "Scores of the best labels.",
            ("model",),
            buckets=_SCORES,
            registry=registry,
        )
        self._frames = Counter(
            "edge_agent_camera_frames",
            "Frames, by result (classified, skipped, busy, bad_image, no_model, error).",
            ("camera", "result"),
            registry=registry,
        )
        self._batch_size = Histogram(
            "edge_agent_batch_size",
            "Images and tensors per call of a SavedModel that computes batches.",
            ("model",),
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        # labels() takes 3 µs, of which an image needs eight. No series is ever removed.
        self._duration_of = functools.cache(self._duration.labels)
        self._inferences_of = functools.cache(self._inferences.labels)
        self._predictions_of = functools.cache(self._predictions.labels)
        self._score_of = functools.cache(self._score.labels)

    def classified(self, result: Result) -> None:
        classification = result.classification
        name, timing = classification.model.name, classification.timing
        self._inferences_of(name, result.source, "ok").inc()
        for stage in ("decode", "preprocess", "invoke", "total"):
            self._duration_of(name, stage).observe(getattr(timing, stage) / 1e3)
        if classification.categories:
            best = classification.categories[0]
            self._predictions_of(name, best.label).inc()
            self._score_of(name).observe(best.score)
        if result.source != UPLOAD.camera:
            self._frames.labels(result.source, "classified").inc()

    def batched(self, model: ModelIdentity, size: int) -> None:
        self._batch_size.labels(model.name).observe(size)

    def skipped(self, spot: Spot) -> None:
        self._frames.labels(spot.camera, "skipped").inc()

    def refused(self, source: str, model: str | None, error: AgentError, *, by: ModelIdentity | None) -> None:  # noqa: ARG002  (Listener's)
        outcome = next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "error")
        if source != UPLOAD.camera:
            self._inferences.labels(model or "", source, outcome).inc()
            self._frames.labels(source, outcome).inc()
        else:  # model names invented by clients must not become series
            self._inferences.labels("", source, outcome).inc()

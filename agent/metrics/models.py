"""Models: the serving versions and their answers, and the outcome of each dropped file."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Summary

from agent.listeners import Listener, WithdrawalCause
from agent.status import ModelStatus

if TYPE_CHECKING:
    from agent.classification import ModelIdentity, Result
    from agent.errors import AgentError
    from agent.listeners import TrialOutcome


class ModelMetrics(Listener):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._served: dict[str, set[ModelIdentity]] = {}
        self._info = Gauge(
            "edge_agent_model_info",
            "1 for each version that serves, including the canary.",
            ("model", "version", "sha256"),
            registry=registry,
        )
        self._loads = Counter(
            "edge_agent_model_loads",
            "Model files tried, by result (admitted, rejected).",
            ("model", "result"),
            registry=registry,
        )
        self._rejected = Gauge(
            "edge_agent_model_rejected", "1 while a file of the model is rejected.", ("model",), registry=registry
        )
        self._rollbacks = Counter(
            "edge_agent_model_rollbacks",
            f"Versions withdrawn, by cause ({', '.join(get_args(WithdrawalCause))}).",
            ("model", "cause"),
            registry=registry,
        )
        self._runs_on: dict[str, tuple[str, str]] = {}
        self._accelerator = Gauge(
            "edge_agent_accelerator_info",
            "1 for what computes the stable version: the accelerator (cpu, gpu, edgetpu) and the runtime.",
            ("model", "accelerator", "runtime"),
            registry=registry,
        )
        self._gaps = Counter(
            "edge_agent_model_swap_gap_seconds",
            "Time without a serving version during swaps, if memory is too short for two versions.",
            ("model",),
            registry=registry,
        )

    def model_changed(self, status: ModelStatus) -> None:
        self._show_served(status)
        self._show_runtime(status)
        if status == ModelStatus(status.name):  # a forgotten name: series for bad files would pile up
            _remove(self._rejected, status.name)
            _remove(self._loads, status.name, "rejected")
        else:
            self._rejected.labels(status.name).set(status.rejection is not None)

    def model_tried(self, model: str, outcome: TrialOutcome) -> None:
        self._loads.labels(model, outcome).inc()

    def version_withdrawn(self, model: str, cause: WithdrawalCause) -> None:
        self._rollbacks.labels(model, cause).inc()

    def swap_gap(self, model: str, seconds: float) -> None:
        self._gaps.labels(model).inc(seconds)

    def _show_served(self, status: ModelStatus) -> None:
        served = {identity for identity in (status.serving, status.canary) if identity is not None}
        for gone in self._served.pop(status.name, set()) - served:
            _remove(self._info, *_info_labels(gone))
        if not served:
            return
        self._served[status.name] = served
        for identity in served:
            self._info.labels(*_info_labels(identity)).set(1)
        for cause in get_args(WithdrawalCause):  # Prometheus sees no increase in a counter that starts at 1
            self._rollbacks.labels(status.name, cause)

    def _show_runtime(self, status: ModelStatus) -> None:
        now = (status.runs_on.accelerator, status.runs_on.runtime) if status.runs_on else None
        before = self._runs_on.pop(status.name, None)
        if before is not None and before != now:
            _remove(self._accelerator, status.name, *before)
        if now is not None:
            self._runs_on[status.name] = now
            self._accelerator.labels(status.name, *now).set(1)


class VersionMetrics(Listener):
    """Counts per serving version, to compare a canary with the stable version."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("model", "version", "label")
        self._labels: dict[ModelIdentity, str] = {}  # stable or canary, for each serving version
        self._seen: set[tuple[ModelIdentity, str]] = set()
        self._inferences = Counter(
            "edge_agent_version_inferences",
            "Images given to a version, by its label (stable, canary) and outcome (ok, error).",
            (*labels, "outcome"),
            registry=registry,
        )
        self._invoke = Summary(
            "edge_agent_version_inference_seconds", "Time of a version in the runtime.", labels, registry=registry
        )
        self._score = Summary(
            "edge_agent_version_prediction_score", "Scores of a version's best labels.", labels, registry=registry
        )
        self._inferences_of = functools.cache(self._inferences.labels)  # labels() itself takes 3 µs
        self._invoke_of = functools.cache(self._invoke.labels)
        self._score_of = functools.cache(self._score.labels)

    def classified(self, result: Result) -> None:
        classification = result.classification
        if (key := self._key(classification.model)) is None:
            return
        self._inferences_of(*key, "ok").inc()
        self._invoke_of(*key).observe(classification.timing.invoke / 1e3)
        if classification.categories:
            self._score_of(*key).observe(classification.categories[0].score)

    def refused(self, source: str, model: str | None, error: AgentError, *, by: ModelIdentity | None) -> None:  # noqa: ARG002  (Listener's)
        if by is not None and (key := self._key(by)) is not None:
            self._inferences_of(*key, "error").inc()

    def model_changed(self, status: ModelStatus) -> None:
        """Removes the series of versions that stopped serving; otherwise each drop would leave some behind."""
        self._labels = {identity: label for identity, label in self._labels.items() if identity.name != status.name}
        if status.canary is not None:
            self._labels[status.canary] = "canary"
        if status.serving is not None:
            self._labels[status.serving] = "stable"
        for identity, label in {seen for seen in self._seen if seen[0] not in self._labels}:
            self._seen.remove((identity, label))
            key = (identity.name, str(identity.version), label)
            for outcome in ("ok", "error"):
                _remove(self._inferences, *key, outcome)
            _remove(self._invoke, *key)
            _remove(self._score, *key)
            for known in (self._inferences_of, self._invoke_of, self._score_of):
                known.cache_clear()

    def _key(self, identity: ModelIdentity) -> tuple[str, str, str] | None:
        """None for the last calls of a version that stopped serving."""
        label = self._labels.get(identity)
        if label is None:
            return None
        self._seen.add((identity, label))
        return identity.name, str(identity.version), label


def _info_labels(identity: ModelIdentity) -> tuple[str, str, str]:
    return identity.name, str(identity.version), identity.sha256


def _remove(metric: Counter | Gauge | Summary, *labels: str) -> None:
    with contextlib.suppress(KeyError):  # old versions of prometheus_client raise it for unknown labels
        metric.remove(*labels)

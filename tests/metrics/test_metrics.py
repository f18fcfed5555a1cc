from __future__ import annotations

import dataclasses

from agents.spots import unnamed
from prometheus_client.parser import text_string_to_metric_families

from agent.classification import Category, Classification, ModelIdentity, Result, Spot, Timing
from agent.errors import BusyError, ImageDamagedError, ModelError, ModelNotFoundError
from agent.inference.results import Results
from agent.listeners import Listeners
from agent.metrics.registry import Metrics
from agent.mqtt.outbox.outbox import OutboxStatus
from agent.mqtt.session import MqttStatus
from agent.status import CameraHealth, CameraStatus, ModelStatus, Rejection, RuntimeStatus

MODEL = ModelIdentity("birds", 2, "ab" * 32)
CANARY = ModelIdentity("birds", 3, "cd" * 32)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    families = text_string_to_metric_families(metrics.render().decode())
    found = [s.value for family in families for s in family.samples if s.name == name and s.labels == labels]
    return found[0] if found else None


def some_metrics() -> Metrics:
    metrics = Metrics(version="1", runtime="litert")
    listeners_of(metrics).cameras_configured(unnamed("front"))
    return metrics


def listeners_of(metrics: Metrics) -> Listeners:
    return Listeners(metrics.listeners)


def result(classification: Classification, source: str = "upload") -> Result:
    return Results(device="d").record(classification, spot=Spot(source), captured_ns=0)


def birds(serving: ModelIdentity | None = None, canary: ModelIdentity | None = None) -> ModelStatus:
    return ModelStatus("birds", serving=serving, since_ns=1, canary=canary)


def test_accelerator_of_a_model_is_shown_until_it_changes_or_the_model_goes() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)
    on_gpu = RuntimeStatus("ai-edge-litert 2.3.0, gpu", "gpu", "It is 3.0 times as fast as the CPU.")
    for runs_on in (on_gpu, RuntimeStatus("ai-edge-litert 2.3.0, cpu, 1 thread")):
        listeners.model_changed(dataclasses.replace(birds(MODEL), runs_on=runs_on))
        labels = {"model": "birds", "accelerator": runs_on.accelerator, "runtime": runs_on.runtime}
        assert value(metrics, "edge_agent_accelerator_info", **labels) == 1
        assert metrics.render().count(b"edge_agent_accelerator_info{") == 1
    listeners.model_changed(ModelStatus("birds"))
    assert b"edge_agent_accelerator_info{" not in metrics.render()


def test_classification_is_counted_with_its_stages_label_and_score() -> None:
    metrics = some_metrics()
    answer = Classification(MODEL, (Category(0, "robin", 0.9),), Timing(1, 2, 3, 6))
    listeners = listeners_of(metrics)
    listeners.classified(result(answer, "front"))
    listeners.classified(result(answer))
    listeners.classified(result(Classification(MODEL, (), Timing(0, 0, 0, 0)), "front"))
    assert value(metrics, "edge_agent_inferences_total", model="birds", source="front", outcome="ok") == 2
    assert value(metrics, "edge_agent_inferences_total", model="birds", source="upload", outcome="ok") == 1
    assert value(metrics, "edge_agent_camera_frames_total", camera="front", result="classified") == 2
    assert value(metrics, "edge_agent_predictions_total", model="birds", label="robin") == 2
    assert value(metrics, "edge_agent_inference_duration_seconds_sum", model="birds", stage="invoke") == 0.006
    assert value(metrics, "edge_agent_prediction_score_count", model="birds") == 2


def test_failures_are_counted_by_kind_without_series_for_unknown_model_names() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)
    listeners.refused("upload", "x" * 99, ModelNotFoundError("no"), by=None)
    listeners.refused("upload", None, BusyError("busy", retry_after_s=1), by=None)
    listeners.refused("upload", None, ImageDamagedError("bad"), by=None)
    listeners.refused("front", "birds", ModelNotFoundError("no"), by=None)
    assert value(metrics, "edge_agent_inferences_total", model="", source="upload", outcome="no_model") == 1
    assert value(metrics, "edge_agent_inferences_total", model="", source="upload", outcome="busy") == 1
    assert value(metrics, "edge_agent_inferences_total", model="", source="upload", outcome="bad_image") == 1
    assert value(metrics, "edge_agent_inferences_total", model="birds", source="front", outcome="no_model") == 1


def test_skipped_frames_are_counted_by_view_until_the_view_is_gone() -> None:
    metrics = some_metrics()
    listeners, skipped = listeners_of(metrics), "edge_agent_motion_skipped_total"
    listeners.cameras_configured({"front": [Spot("front")], "yard": [Spot("yard", "a"), Spot("yard", "b")]})
    listeners.skipped(Spot("front"))
    listeners.skipped(Spot("yard", "b"))
    assert value(metrics, skipped, camera="front", view="") == 1
    assert [value(metrics, skipped, camera="yard", view=view) for view in ("a", "b")] == [0, 1]
    assert value(metrics, "edge_agent_camera_frames_total", camera="yard", result="skipped") == 1
    listeners.cameras_configured({"front": [Spot("front")], "yard": [Spot("yard", "a")]})
    assert value(metrics, skipped, camera="front", view="") == 1
    assert [value(metrics, skipped, camera="yard", view=view) for view in ("a", "b")] == [0, None]


def test_model_info_shows_only_the_serving_versions() -> None:
    metrics = some_metrics()
    listeners_of(metrics).model_changed(birds(MODEL))
    listeners_of(metrics).model_changed(birds(CANARY))
    assert value(metrics, "edge_agent_model_info", model="birds", version="3", sha256="cd" * 32) == 1
    assert value(metrics, "edge_agent_model_info", model="birds", version="2", sha256="ab" * 32) is None


def classification(model: ModelIdentity, *scores: float) -> Classification:
    return Classification(model, tuple(Category(0, "robin", score) for score in scores), Timing(0, 1, 4, 5))


def test_canary_and_stable_version_are_counted_separately() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)
    listeners.model_changed(birds(MODEL, CANARY))
    listeners.classified(result(classification(MODEL, 0.9, 0.1)))
    listeners.classified(result(classification(MODEL, 0.5)))
    listeners.classified(result(classification(MODEL)))
    listeners.refused("upload", "birds", ModelError("The runtime fails."), by=CANARY)
    stable, canary = version_labels("2", "stable"), version_labels("3", "canary")
    inferences = "edge_agent_version_inferences_total"
    assert value(metrics, inferences, **stable, outcome="ok") == 3
    assert value(metrics, inferences, **stable, outcome="error") is None
    assert value(metrics, inferences, **canary, outcome="error") == 1
    assert value(metrics, "edge_agent_version_inference_seconds_sum", **stable) == 0.012
    assert value(metrics, "edge_agent_version_inference_seconds_count", **stable) == 3
    assert value(metrics, "edge_agent_version_inference_seconds_count", **canary) is None
    assert value(metrics, "edge_agent_version_prediction_score_sum", **stable) == 1.4
    assert value(metrics, "edge_agent_version_prediction_score_count", **stable) == 2


def test_version_that_stopped_serving_leaves_no_series() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)
    listeners.model_changed(birds(MODEL, CANARY))
    listeners.classified(result(classification(MODEL, 0.9)))
    listeners.classified(result(classification(CANARY, 0.9)))
    listeners.refused("upload", "birds", ModelError("The runtime fails."), by=CANARY)
    listeners.model_changed(birds(MODEL))
    listeners.classified(result(classification(CANARY, 0.9)))  # it was in a worker meanwhile
    shown = metrics.render().decode()
    assert 'edge_agent_version_inferences_total{label="stable",model="birds",outcome="ok",version="2"} 1.0' in shown
    assert 'label="canary"' not in shown
    listeners.model_changed(birds())
    assert 'label="stable"' not in metrics.render().decode()


def version_labels(version: str, label: str) -> dict[str, str]:
    return {"model": "birds", "version": version, "label": label}


def test_withdrawals_and_swap_gaps_are_counted() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)
    listeners.version_withdrawn("birds", "nan")
    listeners.swap_gap("birds", 0.25)
    listeners.swap_gap("birds", 0.5)
    assert value(metrics, "edge_agent_model_rollbacks_total", model="birds", cause="nan") == 1
    assert value(metrics, "edge_agent_model_swap_gap_seconds_total", model="birds") == 0.75


def test_model_rejected_is_1_until_a_version_serves() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)
    listeners.model_changed(dataclasses.replace(birds(), rejection=Rejection("birds.tflite", "It is bad.", 1)))
    assert value(metrics, "edge_agent_model_rejected", model="birds") == 1
    listeners.model_changed(birds(MODEL))
    assert value(metrics, "edge_agent_model_rejected", model="birds") == 0
    listeners.model_changed(ModelStatus("birds"))
    listeners.model_changed(ModelStatus("birds"))
    assert value(metrics, "edge_agent_model_rejected", model="birds") is None


class Parts:
    """The health, models and cameras that the metrics read at a scrape."""

    def __init__(self) -> None:
        self.not_ready = ["No model is served yet."]
        self.store_trouble: str | None = None

    def why_not_ready(self) -> list[str]:
        return self.not_ready

    def last_frames_s(self) -> dict[str, float]:
        return {"front": 12.5}


def test_store_trouble_and_last_frames_are_read_at_each_scrape() -> None:
    metrics, parts = some_metrics(), Parts()
    metrics.watch(health=parts, models=parts, cameras=parts)
    assert value(metrics, "edge_agent_store_trouble") == 0
    parts.store_trouble = "The disk is full."
    assert value(metrics, "edge_agent_store_trouble") == 1
    assert value(metrics, "edge_agent_camera_last_frame_timestamp_seconds", camera="front") == 12.5


def test_requests_are_counted_while_they_are_in_flight() -> None:
    metrics = some_metrics()
    with metrics.http.in_flight(), metrics.http.in_flight():
        assert value(metrics, "edge_agent_http_requests_in_flight") == 2
    assert value(metrics, "edge_agent_http_requests_in_flight") == 0


def test_camera_is_in_exactly_one_state() -> None:
    metrics = some_metrics()
    listeners_of(metrics).camera_changed("front", CameraStatus("starting"))
    listeners_of(metrics).camera_changed("front", CameraStatus("lost"))
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [s for family in families for s in family.samples if s.name == "edge_agent_camera_state"]
    assert {s.labels["state"] for s in samples if s.value} == {"lost"}
    assert len(samples) == 6


def test_camera_has_exactly_one_health_until_it_is_removed_or_not_judged() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)

    def shown() -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(metrics.render().decode())
        samples = [s for family in families for s in family.samples if s.name == "edge_agent_camera_health"]
        return {(s.labels["camera"], s.labels["health"]): s.value for s in samples if s.value}

    listeners.cameras_configured(unnamed("front", "back"))
    for camera in ("front", "back"):
        listeners.camera_changed(camera, CameraStatus("online"))
        listeners.camera_health_changed(camera, CameraHealth("ok"))
    listeners.camera_health_changed("front", CameraHealth("moved"))
    assert shown() == {("front", "moved"): 1, ("back", "ok"): 1}
    listeners.cameras_configured(unnamed("front"))
    assert shown() == {("front", "moved"): 1}
    listeners.camera_health_changed("front", None)
    assert shown() == {}


def test_readiness_is_read_at_each_scrape() -> None:
    metrics, parts = some_metrics(), Parts()
    metrics.watch(health=parts, models=parts, cameras=parts)
    assert value(metrics, "edge_agent_ready") == 0
    parts.not_ready.clear()
    assert value(metrics, "edge_agent_ready") == 1


def test_outbox_is_read_at_each_scrape() -> None:
    status = [MqttStatus("connected", None, "5", OutboxStatus(messages=3, size=4096, evicted=0, trouble=None))]
    metrics = some_metrics()
    metrics.watch_mqtt(lambda: status[0])
    names = ("mqtt_connected", "outbox_messages", "outbox_bytes", "outbox_evicted_total", "outbox_trouble")
    assert [value(metrics, f"edge_agent_{name}") for name in names] == [1, 3, 4096, 0, 0]
    status[0] = MqttStatus("unreachable", "Gone.", None, OutboxStatus(9, 8192, 7, "The disk is full."))
    assert [value(metrics, f"edge_agent_{name}") for name in names] == [0, 9, 8192, 7, 1]


def test_camera_reconnects_start_at_0() -> None:
    assert value(some_metrics(), "edge_agent_camera_reconnects_total", camera="front") == 0


def test_loads_requests_and_lost_cameras_are_counted() -> None:
    metrics = some_metrics()
    listeners = listeners_of(metrics)
    listeners.model_tried("birds", "rejected")
    metrics.http.answered("/predict", 200)
    listeners.camera_changed("front", CameraStatus("lost", "It is unplugged."))
    listeners.camera_changed("front", CameraStatus("lost", "It is still unplugged."))
    assert value(metrics, "edge_agent_model_loads_total", model="birds", result="rejected") == 1
    assert value(metrics, "edge_agent_http_requests_total", route="/predict", code="200") == 1
    assert value(metrics, "edge_agent_camera_reconnects_total", camera="front") == 1

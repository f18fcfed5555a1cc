from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from agent.classification import Category, Classification, ModelIdentity, Timing
from agent.errors import BusyError, ImageDamagedError, ModelError, ModelNotFoundError
from agent.metrics.registry import Metrics
from agent.mqtt.outbox.outbox import OutboxStatus
from agent.mqtt.session import MqttStatus

MODEL = ModelIdentity("birds", 2, "ab" * 32)
CANARY = ModelIdentity("birds", 3, "cd" * 32)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    families = text_string_to_metric_families(metrics.render().decode())
    found = [s.value for family in families for s in family.samples if s.name == name and s.labels == labels]
    return found[0] if found else None


def some_metrics() -> Metrics:
    return Metrics(version="1", runtime="litert", cameras=["front"])


def test_a_classification_counts_with_its_stages_label_and_score() -> None:
    metrics = some_metrics()
    answer = Classification(MODEL, (Category(0, "robin", 0.9),), Timing(1, 2, 3, 6))
    metrics.observe_inference("front", None, answer)
    metrics.observe_inference("upload", "birds", answer)
    metrics.observe_inference("front", "birds", Classification(MODEL, (), Timing(0, 0, 0, 0)))
    assert value(metrics, "edge_agent_inferences_total", model="birds", source="front", outcome="ok") == 2
    assert value(metrics, "edge_agent_inferences_total", model="birds", source="upload", outcome="ok") == 1
    assert value(metrics, "edge_agent_camera_frames_total", camera="front", result="classified") == 2
    assert value(metrics, "edge_agent_predictions_total", model="birds", label="robin") == 2
    assert value(metrics, "edge_agent_inference_duration_seconds_sum", model="birds", stage="invoke") == 0.006
    assert value(metrics, "edge_agent_prediction_score_count", model="birds") == 2


def test_failures_count_by_their_kind_and_a_strangers_model_name_makes_no_series() -> None:
    metrics = some_metrics()
    metrics.observe_inference("upload", "x" * 99, ModelNotFoundError("no"))
    metrics.observe_inference("upload", None, BusyError("busy", retry_after_s=1))
    metrics.observe_inference("upload", None, ImageDamagedError("bad"))
    metrics.observe_inference("front", "birds", ModelNotFoundError("no"))
    assert value(metrics, "edge_agent_inferences_total", model="", source="upload", outcome="no_model") == 1
    assert value(metrics, "edge_agent_inferences_total", model="", source="upload", outcome="busy") == 1
    assert value(metrics, "edge_agent_inferences_total", model="", source="upload", outcome="bad_image") == 1
    assert value(metrics, "edge_agent_inferences_total", model="birds", source="front", outcome="no_model") == 1


def test_only_the_serving_versions_are_shown() -> None:
    metrics = some_metrics()
    metrics.set_served([MODEL])
    metrics.set_served([CANARY])
    assert value(metrics, "edge_agent_model_info", model="birds", version="3", sha256="cd" * 32) == 1
    assert value(metrics, "edge_agent_model_info", model="birds", version="2", sha256="ab" * 32) is None


def classification(model: ModelIdentity, *scores: float) -> Classification:
    return Classification(model, tuple(Category(0, "robin", score) for score in scores), Timing(0, 1, 4, 5))


def test_a_canary_is_compared_with_the_stable_version() -> None:
    metrics = some_metrics()
    metrics.set_served(identity for identity in (MODEL, CANARY))
    metrics.observe_version(MODEL, "stable", classification(MODEL, 0.9, 0.1))
    metrics.observe_version(MODEL, "stable", classification(MODEL, 0.5))
    metrics.observe_version(MODEL, "stable", classification(MODEL))
    metrics.observe_version(CANARY, "canary", ModelError("The runtime fails."))
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


def test_a_version_that_serves_no_longer_leaves_no_series() -> None:
    metrics = some_metrics()
    metrics.set_served([MODEL, CANARY])
    metrics.observe_version(MODEL, "stable", classification(MODEL, 0.9))
    metrics.observe_version(CANARY, "canary", classification(CANARY, 0.9))
    metrics.observe_version(CANARY, "canary", ModelError("The runtime fails."))
    metrics.set_served([MODEL])
    metrics.observe_version(CANARY, "canary", classification(CANARY, 0.9))  # was in a worker meanwhile
    shown = metrics.render().decode()
    assert 'edge_agent_version_inferences_total{label="stable",model="birds",outcome="ok",version="2"} 1.0' in shown
    assert 'label="canary"' not in shown
    metrics.set_served([])
    assert 'label="stable"' not in metrics.render().decode()


def version_labels(version: str, label: str) -> dict[str, str]:
    return {"model": "birds", "version": version, "label": label}


def test_what_becomes_of_versions_is_counted() -> None:
    metrics = some_metrics()
    metrics.observe_rollback("birds", "nan")
    metrics.observe_gap("birds", 0.25)
    metrics.observe_gap("birds", 0.5)
    assert value(metrics, "edge_agent_model_rollbacks_total", model="birds", cause="nan") == 1
    assert value(metrics, "edge_agent_model_swap_gap_seconds_total", model="birds") == 0.75


def test_a_rejection_shows_as_long_as_it_stands() -> None:
    metrics = some_metrics()
    metrics.set_rejected("birds", rejected=True)
    assert value(metrics, "edge_agent_model_rejected", model="birds") == 1
    metrics.set_rejected("birds", rejected=False)
    assert value(metrics, "edge_agent_model_rejected", model="birds") == 0
    metrics.forget_model("birds")
    metrics.forget_model("birds")
    assert value(metrics, "edge_agent_model_rejected", model="birds") is None


def test_states_are_read_when_prometheus_asks() -> None:
    metrics, connected = some_metrics(), [0.0]
    metrics.watch_last_frame("front", lambda: 12.5)
    metrics.watch_store(lambda: connected[0])
    assert value(metrics, "edge_agent_store_trouble") == 0
    connected[0] = 1.0
    assert value(metrics, "edge_agent_store_trouble") == 1
    assert value(metrics, "edge_agent_camera_last_frame_timestamp_seconds", camera="front") == 12.5


def test_requests_count_while_they_are_in_flight() -> None:
    metrics = some_metrics()
    with metrics.request_in_flight(), metrics.request_in_flight():
        assert value(metrics, "edge_agent_http_requests_in_flight") == 2
    assert value(metrics, "edge_agent_http_requests_in_flight") == 0


def test_a_camera_is_in_one_state() -> None:
    metrics = some_metrics()
    metrics.set_camera_state("front", "starting")
    metrics.set_camera_state("front", "lost")
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [s for family in families for s in family.samples if s.name == "edge_agent_camera_state"]
    assert {s.labels["state"] for s in samples if s.value} == {"lost"}
    assert len(samples) == 6


def test_readiness_is_asked_when_prometheus_asks() -> None:
    metrics, ready = some_metrics(), [0.0]
    metrics.watch_ready(lambda: ready[0])
    assert value(metrics, "edge_agent_ready") == 0
    ready[0] = 1.0
    assert value(metrics, "edge_agent_ready") == 1


def test_the_outbox_is_asked_when_prometheus_asks() -> None:
    status = [MqttStatus("connected", None, "5", OutboxStatus(messages=3, size=4096, evicted=0, trouble=None))]
    metrics = some_metrics()
    metrics.watch_mqtt(lambda: status[0])
    names = ("mqtt_connected", "outbox_messages", "outbox_bytes", "outbox_evicted_total", "outbox_trouble")
    assert [value(metrics, f"edge_agent_{name}") for name in names] == [1, 3, 4096, 0, 0]
    status[0] = MqttStatus("unreachable", "Gone.", None, OutboxStatus(9, 8192, 7, "The disk is full."))
    assert [value(metrics, f"edge_agent_{name}") for name in names] == [0, 9, 8192, 7, 1]


def test_a_cameras_losses_count_from_0() -> None:
    assert value(some_metrics(), "edge_agent_camera_reconnects_total", camera="front") == 0


def test_loads_requests_and_lost_cameras_are_counted() -> None:
    metrics = some_metrics()
    metrics.observe_load("birds", "rejected")
    metrics.observe_request("/predict", 200)
    metrics.observe_lost_camera("front")
    assert value(metrics, "edge_agent_model_loads_total", model="birds", result="rejected") == 1
    assert value(metrics, "edge_agent_http_requests_total", route="/predict", code="200") == 1
    assert value(metrics, "edge_agent_camera_reconnects_total", camera="front") == 1

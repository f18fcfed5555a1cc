from __future__ import annotations

from agent.health import Health
from agent.mqtt.outbox.outbox import OutboxStatus
from agent.mqtt.session import MqttStatus
from agent.status import ModelStatus, Rejection


class Parts:
    """The parts whose state Health reports; a test sets the problems."""

    def __init__(self) -> None:
        self.oldest_call_s = 0.0
        self.served: dict[str, object] = {"birds": object()}
        self.statuses = [
            ModelStatus("birds"),
            ModelStatus("cats", rejection=Rejection("cats.tflite", "It is empty.", 1)),
        ]
        self.models_trouble: list[str] = []
        self.cameras_trouble: list[str] = []
        self.silent: str | None = None
        self.trouble: str | None = None
        self.status = MqttStatus("connected", None, "5", OutboxStatus(messages=3, size=40, evicted=0, trouble=None))

    @property
    def health(self) -> Health:
        return Health(engine=self, models=_Models(self), cameras=_Cameras(self), mqtt=self, others=[self])


class _Models:
    def __init__(self, parts: Parts) -> None:
        self.served, self.statuses, self.troubles = parts.served, parts.statuses, parts.models_trouble


class _Cameras:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def troubles(self) -> list[str]:
        return self._parts.cameras_trouble

    def stuck(self, *, after_s: float) -> str | None:
        assert after_s == 60
        return self._parts.silent


def test_device_is_ready_while_a_model_serves_and_every_camera_gives_frames() -> None:
    parts = Parts()
    assert parts.health.why_not_ready() == []
    assert parts.health.stuck() is None
    parts.cameras_trouble.append("Camera front is lost: plug it in.")
    assert parts.health.why_not_ready() == ["Camera front is lost: plug it in."]


def test_device_without_a_model_reports_the_reasons() -> None:
    parts = Parts()
    parts.served.clear()
    parts.models_trouble.append("The models folder cannot be listed.")
    assert parts.health.why_not_ready() == [
        "No model is served yet.",
        "The models folder cannot be listed.",
        "Model cats: It is empty.",
    ]


def test_rejected_file_is_a_warning_while_a_model_serves() -> None:
    assert Parts().health.warnings() == ["Model cats: It is empty."]


def test_process_is_stuck_when_an_inference_or_a_camera_hangs() -> None:
    parts = Parts()
    parts.silent = "Camera front is online and has given no frame for 70 s."
    assert parts.health.stuck() == parts.silent
    parts.oldest_call_s = 61.0
    assert parts.health.stuck() == "An inference has been running for 61 s."


def test_state_of_mqtt_is_shown_when_it_is_enabled() -> None:
    parts = Parts()
    shown = parts.health.mqtt()
    assert shown is not None
    assert (shown["state"], shown["queued"]) == ("connected", 3)
    assert Health(engine=parts, models=_Models(parts), cameras=_Cameras(parts), mqtt=None).mqtt() is None


def test_trouble_of_another_part_is_a_warning() -> None:
    parts = Parts()
    parts.trouble = "Cannot write the events in /state/events: disk full."
    assert parts.health.warnings()[0] == "Cannot write the events in /state/events: disk full."
    assert parts.health.why_not_ready() == []

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.classification import Spot
from agent.mqtt.home_assistant.device import DiscoveredDevice, ViewFacts, page_url
from agent.mqtt.home_assistant.discovery import DeviceFacts

_FACTS = DeviceFacts("pi-1", "edge-agent/pi-1", "0.1.0", thermometer=False, throttle=False)


class Birds:
    """One serving model, whose labels the test changes."""

    def __init__(self) -> None:
        self.known = ("robin", "wren")

    def labels(self, model: str | None) -> tuple[str, ...]:
        return self.known

    def serving(self) -> list[str]:
        return ["birds"]


def _device(models: Birds) -> DiscoveredDevice:
    return DiscoveredDevice(
        lambda: _FACTS, views=lambda: {Spot("front"): ViewFacts("birds", snapshots=False)}, models=models
    )


def _components(device: DiscoveredDevice) -> dict[str, Any]:
    components: dict[str, Any] = json.loads(device.message(None).payload)["components"]
    return components


def test_device_describes_its_cameras_and_serving_models() -> None:
    components = _components(_device(Birds()))
    assert components["camera_front_label"]["options"] == ["robin", "wren", "none"]
    assert "camera_front_snapshot" not in components
    assert components["model_birds"]["platform"] == "update"


def test_device_is_described_again_once_the_last_label_of_the_former_model_is_replaced() -> None:
    models = Birds()
    device = _device(models)
    assert not device.shows(Spot("front"), "robin")
    assert not device.shows(Spot("front"), "wren")
    models.known = ("cat", "dog")
    assert _components(device)["camera_front_label"]["options"] == ["cat", "dog", "wren", "none"]
    assert device.shows(Spot("front"), "cat")
    assert _components(device)["camera_front_label"]["options"] == ["cat", "dog", "none"]
    assert not device.shows(Spot("front"), "dog")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("0.0.0.0", None),
        ("::", None),
        ("pi-1.lan", "http://pi-1.lan:8501/"),
        ("fd00::7", "http://[fd00::7]:8501/"),
    ],
)
def test_page_url_is_given_only_for_an_address_that_other_devices_can_reach(host: str, url: str | None) -> None:
    assert page_url(host, 8501) == url
    assert page_url(host, 8501, base_path="/edge") == (url and f"{url}edge/")
    assert page_url(host, 8501, scheme="https") == (url and url.replace("http:", "https:"))

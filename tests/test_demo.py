"""The demo of `make run`: its configuration, except for the ports, gives results over MQTT and HTTP."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest
import yaml
from agents.running_agent import DIGITS, ROOT, AgentProcess, wait_until
from end_to_end.material import digit_png, digit_shown, sha256
from peers.mosquitto import free_port
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def mqtt_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, mqtt_port: int) -> Iterator[AgentProcess]:
    """The agent with the folders that `make run` sets up: demo/, configs/, and the model in .demo/models."""
    pytest.importorskip("amqtt", reason="the embedded broker needs amqtt: pip install 'edge-agent[demo]'")
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "demo").symlink_to(ROOT / "demo")
    for folder in (".demo/models", "configs"):
        (checkout / folder).mkdir(parents=True)
    shutil.copy(DIGITS, checkout / ".demo" / "models")
    config = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    config["mqtt"]["port"] = mqtt_port
    config.setdefault("http", {})["port"] = 0
    (checkout / "configs" / "demo.yaml").write_text(yaml.safe_dump(config))
    with AgentProcess(checkout / "configs" / "demo.yaml") as running:
        yield running


def test_the_demo_publishes_results_of_its_camera(demo: AgentProcess, mqtt_port: int) -> None:
    with Subscriber(mqtt_port, topics="edge-agent/demo/#") as heard:
        wait_until(lambda: len(heard.of("/cameras/digits/result")) >= 10, what="10 results are published")
        wait_until(lambda: heard.of("/cameras/digits/classification/digits"), what="a stable digit is published")
    assert {message.json["model"]["sha256"] for message in heard.of("/result")} == {sha256(DIGITS.read_bytes())}
    with Subscriber(mqtt_port, topics="edge-agent/demo/status") as late:
        wait_until(lambda: late.retained().get("edge-agent/demo/status") == "online", what="the status is online")
    assert demo.get("/readyz").is_success


def test_the_demo_answers_an_upload(demo: AgentProcess, mqtt_port: int) -> None:
    with Subscriber(mqtt_port, topics="edge-agent/demo/uploads/result") as heard:
        answer = demo.post("/predict", files={"file": digit_png()}).json()
        assert answer["label"] == digit_shown(0)
        wait_until(lambda: heard.of("/uploads/result"), what="the result of the upload is published")
    assert heard.of("/uploads/result")[0].json["id"] == answer["id"]


def test_the_demo_stops_within_5_s_on_ctrl_c(demo: AgentProcess) -> None:
    assert demo.end(signal.SIGINT) < 5
    assert demo.process.returncode == 0
    assert "Traceback" not in demo.log

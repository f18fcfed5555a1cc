"""SIGHUP: the cameras of the configuration change while the agent runs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from agents.running_agent import VIDEO, RunningAgent, wait_until
from end_to_end.material import model_file
from end_to_end.notify_socket import NotifySocket
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.first

_CAMERA = {"source": str(VIDEO), "loop": True}


def _write(folder: Path, **sections: Any) -> None:
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **sections}))


@pytest.mark.mosquitto
def test_cameras_change_at_sighup_without_a_gap_for_the_others(tmp_path: Path) -> None:
    with NotifySocket() as systemd, Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        mqtt = {"enabled": True, "port": broker.port}
        cameras = {"same": _CAMERA, "gone": _CAMERA, "edited": _CAMERA}
        environment = {"NOTIFY_SOCKET": systemd.address}
        with RunningAgent(tmp_path, mqtt=mqtt, cameras=cameras, environment=environment) as agent:
            agent.drop(model_file(1))
            wait_until(lambda: all(heard.of(f"/{name}/state") for name in cameras), what="cameras have states")
            edited = {**_CAMERA, "rotate": 180}
            _write(tmp_path, cameras={"same": _CAMERA, "edited": edited, "new": _CAMERA}, engine={"workers": 1})
            systemd.wait_for("READY=1")
            agent.process.send_signal(signal.SIGHUP)
            systemd.wait_for("RELOADING=1")
            systemd.wait_for("READY=1")
            wait_until(lambda: heard.of("/new/state"), what="the new camera has a state")
            wait_until(lambda: heard.payloads("/edited/status")[-2:] == ["starting", "online"], what="edited is open")
            assert "Cameras: added new; removed gone; changed edited." in agent.log
            assert "Changes of engine.workers take effect only after a restart." in agent.log
            assert heard.payloads("/same/status")[-1:] == ["online"]
            assert heard.payloads("/same/status").count("starting") == 1
            assert 'edge_agent_camera_state{camera="gone"' not in agent.get("/metrics").text
            with Subscriber(broker.port) as late:
                wait_until(lambda: late.retained().get("edge-agent/test/cameras/new/enabled") == "ON", what="new is on")
                assert not [topic for topic in late.retained() if "/gone/" in topic]
                assert late.of("test/info")[0].json["cameras"] == ["edited", "new", "same"]


def test_wrong_configuration_changes_nothing_at_sighup_and_is_reported(tmp_path: Path) -> None:
    with RunningAgent(tmp_path, cameras={"front": _CAMERA}) as agent:
        _write(tmp_path, cameras={"front": {**_CAMERA, "max_fps": 0}})
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "The changed configuration is not used" in agent.log, what="the mistake is logged")
        (warning,) = [each for each in agent.json("/readyz")["warnings"] if "configuration" in each]
        assert "cameras.front.max_fps" in warning
        _write(tmp_path, cameras={"front": _CAMERA})
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Cameras: no change." in agent.log, what="the correct configuration is used")
        assert not [each for each in agent.json("/readyz")["warnings"] if "configuration" in each]

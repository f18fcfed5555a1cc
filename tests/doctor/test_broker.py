from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from peers.certificates import Authority
from peers.mosquitto import Mosquitto, free_port

from agent.doctor.broker import check_broker
from agent.mqtt.link.endpoint import Endpoint
from agent.mqtt.message import Message
from agent.security.tls import Tls

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mosquitto


def test_broker_is_ok_when_it_accepts_this_device(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, users={"pi": "secret"}) as broker:
        finding = check_broker(_endpoint(broker.port, username="pi", password="secret"))
        log = broker.log
    assert (finding.level, finding.fact) == ("ok", f"127.0.0.1:{broker.port} accepts user pi (MQTT 5)")
    assert "as edge-agent-pi-doctor" in log


@pytest.mark.parametrize("missing", ["retain_available false", "max_qos 0"])
def test_broker_is_a_warning_when_it_lacks_a_feature(tmp_path: Path, missing: str) -> None:
    with Mosquitto(tmp_path, config=missing) as broker:
        finding = check_broker(_endpoint(broker.port))
    assert finding.level == "warning"
    assert finding.fact.startswith(f"The MQTT broker at 127.0.0.1:{broker.port} ")
    assert "Allow" in str(finding.remedy)


def test_broker_is_a_fault_when_the_password_is_wrong(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, users={"pi": "secret"}) as broker:
        finding = check_broker(_endpoint(broker.port, username="pi", password="other"))
    assert finding.level == "fault"
    assert finding.fact == f"The MQTT broker at 127.0.0.1:{broker.port} refuses this agent: Not authorized."
    assert "mqtt.password_file" in str(finding.remedy)


def test_broker_is_a_fault_when_it_is_unreachable_or_unknown() -> None:
    port = free_port()
    unreachable = check_broker(_endpoint(port))
    assert (unreachable.level, unreachable.remedy) == ("fault", "Start it, or correct mqtt.host and mqtt.port.")
    assert check_broker(_endpoint(1883, host="nowhere.invalid")).level == "fault"


def test_broker_is_a_fault_when_another_authority_signed_it(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    with Mosquitto(tmp_path, config=ours.sign("broker").listener()) as broker:
        assert check_broker(_endpoint(broker.port, tls=Tls(ours.ca_file, section="mqtt"))).fact.endswith(
            "(MQTT 5 over TLS)"
        )
        assert "mqtt.ca_file" in str(
            check_broker(_endpoint(broker.port, tls=Tls(other.ca_file, section="mqtt"))).remedy
        )


def test_broker_is_a_fault_when_the_key_is_missing(tmp_path: Path) -> None:
    finding = check_broker(_endpoint(1883, tls=Tls(None, tmp_path / "cert", tmp_path / "key", section="mqtt")))
    assert finding.level == "fault"
    assert "mqtt.cert_file" in finding.fact


def _endpoint(port: int, **more: Any) -> Endpoint:
    values = {"host": "127.0.0.1", "username": None, "password": None, **more}
    return Endpoint(port=port, client_id="edge-agent-pi", will=Message("edge-agent/pi/status", b"offline"), **values)

"""drop-ins/network.conf: the kernel lets the service reach this machine and local networks, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.mosquitto import Mosquitto
from vm.agent import configure, readiness
from vm.machine import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vm.machine import Machine

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(1200)]

_ELSEWHERE = "203.0.113.7"  # of the documentation's network: nobody's (RFC 5737)
_AT_HOME = "192.168.77.7"
_DROP_IN = "/opt/edge-agent/current/system/drop-ins/network.conf"
_DROP_INS = "/etc/systemd/system/edge-agent.service.d"


@pytest.fixture(scope="module")
def brokers(machine: Machine) -> Machine:
    """With a broker that answers at addresses near and far."""
    machine.run(f"ip address add {_ELSEWHERE}/32 dev lo; ip address add {_AT_HOME}/32 dev lo")
    machine.run("printf 'listener 1883 0.0.0.0\\nallow_anonymous true\\n' >/etc/mosquitto/conf.d/all.conf")
    machine.run("systemctl restart mosquitto")
    return machine


@pytest.fixture
def closed(brokers: Machine) -> Iterator[Machine]:
    brokers.run(f"install -D -m 644 {_DROP_IN} {_DROP_INS}/network.conf; systemctl daemon-reload")
    yield brokers
    brokers.run(f"rm {_DROP_INS}/network.conf; systemctl daemon-reload")


def test_without_it_an_address_elsewhere_is_reached(brokers: Machine) -> None:
    configure(brokers, mqtt={"host": _ELSEWHERE})
    _wait_until_connected(brokers)


def test_with_it_an_address_elsewhere_is_not_reached_and_the_reason_is_told(closed: Machine) -> None:
    configure(closed, mqtt={"host": _ELSEWHERE})
    closed.wait_for(f"curl -sS http://127.0.0.1:8501/readyz | grep {_ELSEWHERE}")
    assert readiness(closed)["mqtt"]["state"] != "connected"


@pytest.mark.parametrize("host", ["localhost", _AT_HOME])
def test_with_it_brokers_near_are_reached(closed: Machine, host: str) -> None:
    configure(closed, mqtt={"host": host})
    _wait_until_connected(closed)


def test_with_it_a_broker_on_another_machine_of_the_network_is_reached(closed: Machine, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        configure(closed, mqtt={"host": HOST, "port": broker.port})
        _wait_until_connected(closed)


def _wait_until_connected(machine: Machine) -> None:
    machine.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep '\"connected\"'", timeout_s=90)

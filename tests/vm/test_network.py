"""drop-ins/network.conf: the service can reach only its own machine and local networks."""

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

_PUBLIC = "203.0.113.7"  # reserved for documentation (RFC 5737)
_PRIVATE = "192.168.77.7"
_DROP_IN = "/opt/edge-agent/current/system/drop-ins/network.conf"
_DROP_INS = "/etc/systemd/system/edge-agent.service.d"


@pytest.fixture(scope="module")
def brokers(machine: Machine) -> Machine:
    """A machine whose own broker answers at a public and a private address."""
    machine.run(f"ip address add {_PUBLIC}/32 dev lo; ip address add {_PRIVATE}/32 dev lo")
    machine.run("printf 'listener 1883 0.0.0.0\\nallow_anonymous true\\n' >/etc/mosquitto/conf.d/all.conf")
    machine.run("systemctl restart mosquitto")
    return machine


@pytest.fixture
def restricted(brokers: Machine) -> Iterator[Machine]:
    brokers.run(f"install -D -m 644 {_DROP_IN} {_DROP_INS}/network.conf; systemctl daemon-reload")
    yield brokers
    brokers.run(f"rm {_DROP_INS}/network.conf; systemctl daemon-reload")


def test_without_the_drop_in_a_public_address_is_reachable(brokers: Machine) -> None:
    configure(brokers, mqtt={"host": _PUBLIC})
    _wait_until_connected(brokers)


def test_with_the_drop_in_a_public_address_is_unreachable_and_reported(restricted: Machine) -> None:
    configure(restricted, mqtt={"host": _PUBLIC})
    restricted.wait_for(f"curl -sS http://127.0.0.1:8501/readyz | grep {_PUBLIC}")
    assert readiness(restricted)["mqtt"]["state"] != "connected"


@pytest.mark.parametrize("host", ["localhost", _PRIVATE])
def test_with_the_drop_in_local_and_private_addresses_are_reachable(restricted: Machine, host: str) -> None:
    configure(restricted, mqtt={"host": host})
    _wait_until_connected(restricted)


def test_with_the_drop_in_another_machine_of_the_network_is_reachable(restricted: Machine, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        configure(restricted, mqtt={"host": HOST, "port": broker.port})
        _wait_until_connected(restricted)


def _wait_until_connected(machine: Machine) -> None:
    machine.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep '\"connected\"'", timeout_s=90)

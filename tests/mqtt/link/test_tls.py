from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from agents.mqtt_device import Device, expect
from peers.certificates import Authority, Certificate
from peers.mosquitto import Mosquitto
from peers.subscriber import until

from agent.errors import ConfigError
from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.message import Message
from agent.security.tls import Tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


_QUICK = Timeouts(answer_s=2, first_retry_s=0.05, max_retry_s=0.1, refused_retry_s=0.2)
_Device = partial(Device, timeouts=_QUICK)
_SIGNER = "Set mqtt.ca_file to the certificate of the authority that signed the broker's certificate."
_NAME = "Set mqtt.host to a name that is in the broker's certificate, or issue a certificate for this name."
_UNKNOWN = "is not trusted: unable to get local issuer certificate"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def _own(authority: Authority, tls: Certificate | None = None) -> Tls:
    return Tls(authority.ca_file, tls.cert_file if tls else None, tls.key_file if tls else None, section="mqtt")


@contextmanager
def _handshakes(context: ssl.SSLContext) -> Iterator[int]:
    """A port that performs only the handshake; asyncio's own server does not send the alert."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    context.wrap_socket(client, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("server", "host", "ca", "words"),
    [
        ({}, "127.0.0.1", "other", f"{_UNKNOWN}. {_SIGNER}"),
        ({}, "127.0.0.1", None, f"{_UNKNOWN}. {_SIGNER}"),
        (
            {"age_days": 2},
            "127.0.0.1",
            "authority",
            "is not trusted: certificate has expired. Renew the broker's certificate, or correct this device's clock.",
        ),
        (
            {"age_days": -2},
            "127.0.0.1",
            "authority",
            "is not trusted: certificate is not yet valid. Correct this device's clock.",
        ),
        (
            {"host": "broker.lan"},
            "localhost",
            "authority",
            f"is not trusted: Hostname mismatch, certificate is not valid for 'localhost'. {_NAME}",
        ),
        (
            {"host": "broker.lan"},
            "127.0.0.1",
            "authority",
            f"is not trusted: IP address mismatch, certificate is not valid for '127.0.0.1'. {_NAME}",
        ),
    ],
)
async def test_untrusted_broker_is_refused_with_the_reason(
    server: dict[str, Any], host: str, ca: str | None, words: str, tmp_path: Path
) -> None:
    authority, _ = Authority(tmp_path), Authority(tmp_path, "other")
    with Mosquitto(tmp_path, config=authority.sign("broker", **server).listener()) as broker:
        device = _Device(broker.port, Tls(tmp_path / f"{ca}.pem" if ca else None, section="mqtt"), host=host)
        async with device as connection:
            await expect(connection, "refused", words)
            assert "on" not in device.events
        assert "New client connected" not in broker.log


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "none",
            "certificate required. The broker requires a client certificate. Set mqtt.cert_file and mqtt.key_file.",
        ),
        (
            "stranger",
            "unknown ca. Set mqtt.cert_file to a certificate signed by an authority that the broker trusts.",
        ),
        ("expired", "certificate expired. Renew mqtt.cert_file, or correct the broker's clock."),
    ],
)
async def test_broker_that_refuses_the_client_certificate_is_reported_with_its_reason(
    kind: str, words: str, authority: Authority, tmp_path: Path
) -> None:
    given = {
        "none": None,
        "stranger": Authority(tmp_path, "other").sign("stranger"),
        "expired": authority.sign("old", age_days=2),
    }
    with Mosquitto(tmp_path, config=authority.sign("broker").listener(requires_certificate=True)) as broker:
        device = _Device(broker.port, _own(authority, given[kind]))
        async with device as connection:
            await expect(connection, "refused", f"refuses this agent: {words}")
            await until(lambda: broker.log.count("New connection from") >= 3)
            # Sometimes the broker's reset overtakes its alert, and a try then has a less precise reason.
            await expect(connection, "refused", f"refuses this agent: {words}")
            assert "on" not in device.events
        assert "New client connected" not in broker.log


@pytest.mark.anyio
async def test_refused_certificate_is_reported_with_tls_1_2_too(authority: Authority) -> None:
    server = authority.sign("broker").server()
    server.load_verify_locations(authority.ca_file)
    server.verify_mode = server.verify_mode.CERT_REQUIRED
    server.maximum_version = server.maximum_version.TLSv1_2
    with _handshakes(server) as port:
        async with _Device(port, _own(authority)) as connection:
            words = "handshake failure. The broker requires a client certificate. Set mqtt.cert_file and mqtt.key_file."
            await expect(connection, "refused", f"refuses this agent: {words}")


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_broker_without_tls_1_2_is_reported(authority: Authority) -> None:
    server = authority.sign("broker").server()
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.minimum_version = server.minimum_version.TLSv1_1
    server.maximum_version = server.maximum_version.TLSv1_1
    with _handshakes(server) as port:
        async with _Device(port, _own(authority)) as connection:
            words = "it does not support TLS 1.2 or newer. Update the broker, or enable TLS 1.2 there."
            await expect(connection, "refused", f"refuses this agent: {words}")


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_device_with_a_certificate_of_the_authority_is_accepted(authority: Authority, tmp_path: Path) -> None:
    with Mosquitto(tmp_path, config=authority.sign("broker").listener(requires_certificate=True)) as broker:
        device = _Device(broker.port, _own(authority, authority.sign("pi-1")))
        async with device as connection:
            await until(lambda: connection.state == "connected")
            number = connection.publish(Message("a", b"b"))
            await until(lambda: device.acknowledgments == [number])


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_refusal_is_retried_slowly_with_one_version_until_the_certificate_is_renewed(
    authority: Authority, tmp_path: Path
) -> None:
    with Mosquitto(tmp_path, config=authority.sign("broker", age_days=2).listener()) as broker:
        device = _Device(broker.port, _own(authority))
        async with device as connection:
            await until(lambda: connection.state == "refused")
            assert connection.tries <= 2, "MQTT 3.1.1 would get the same certificate"
            authority.sign("broker")
            broker.kill()
            broker.start()
            await until(lambda: connection.state == "connected")
            assert [connection.protocol, connection.reason] == ["5", None]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_renewed_certificate_of_the_device_is_used_without_a_restart(
    authority: Authority, tmp_path: Path
) -> None:
    own = authority.sign("pi-1", age_days=2)
    with Mosquitto(tmp_path, config=authority.sign("broker").listener(requires_certificate=True)) as broker:
        async with _Device(broker.port, _own(authority, own)) as connection:
            await until(lambda: connection.state == "refused")
            own.cert_file.unlink()
            await until(lambda: f"mqtt.cert_file {own.cert_file} cannot be read" in str(connection.reason))
            assert connection.state == "refused"
            authority.sign("pi-1")
            await until(lambda: connection.state == "connected")


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_port_without_tls_is_reported_and_tried_with_one_version(authority: Authority, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        async with _Device(broker.port, _own(authority)) as connection:
            words = "Correct mqtt.port (usually 8883 for TLS), or set mqtt.tls to false."
            await expect(connection, "unreachable", f"does not accept TLS on this port. {words}")
            assert connection.version == 5


@pytest.mark.anyio
async def test_unanswered_handshake_times_out(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        device = _Device(listener.getsockname()[1], _own(authority), timeouts=replace(_QUICK, network_s=0.2))
        async with device as connection:
            words = "the connection attempt timed out. Start it, or correct mqtt.host and mqtt.port."
            await expect(connection, "unreachable", f"cannot be reached: {words}")


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_port_with_tls_is_reported_when_tls_is_off(authority: Authority, tmp_path: Path) -> None:
    with Mosquitto(tmp_path, config=authority.sign("broker").listener()) as broker:
        async with _Device(broker.port, None) as connection:
            words = "Check that it is running and that mqtt.port is its port for MQTT without TLS."
            await expect(connection, "unreachable", f"closes the connection without an answer. {words}")


@pytest.mark.anyio
async def test_unusable_certificate_is_a_configuration_error(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mqtt\.ca_file .* cannot be read: No such file or directory\."):
        _Device(1883, Tls(tmp_path / "missing.pem", section="mqtt"))

from __future__ import annotations

import pytest

from agent.mqtt.message import Message, MqttVersion


@pytest.mark.parametrize(
    ("body", "packet"),
    [(127, 129), (128, 131), (16_383, 16_386), (16_384, 16_388), (2_097_151, 2_097_155), (2_097_152, 2_097_157)],
)
def test_packet_bytes_include_the_header_of_two_to_five_bytes(body: int, packet: int) -> None:
    """The boundaries are those of MQTT 5, table 1-1."""
    payload = bytes(body - 2 - len("topic") - 2)
    assert Message("topic", payload).packet_bytes(311) == packet
    assert Message("topic", payload[1:]).packet_bytes(5) == packet
    assert Message("topic", payload + b"..").packet_bytes(311, qos=0) == packet


@pytest.mark.parametrize(("version", "size"), [(5, 3 + 2), (311, 0)])
def test_packet_bytes_include_the_correlation_data_of_mqtt_5(version: MqttVersion, size: int) -> None:
    plain, correlated = Message("a", b"b"), Message("a", b"b", correlation=b"17")
    assert correlated.packet_bytes(version) - plain.packet_bytes(version) == size

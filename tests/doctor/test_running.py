from __future__ import annotations

import pytest
from peers.mosquitto import free_port
from peers.web_server import answering

from agent.doctor.running import check_running

_UNREADY = b"""HTTP/1.0 503 Service Unavailable\r\n\r
{"reasons": ["No model is served yet."], "warnings": ["Model bad: The file is empty."],
 "mqtt": {"state": "unreachable", "reason": null, "queued": 0}}"""


def test_running_agent_reports_its_own_problems() -> None:
    with answering(_UNREADY) as port:
        findings = check_running(f"http://127.0.0.1:{port}")
    assert [(finding.about, finding.level) for finding in findings] == [
        ("agent", "fault"),
        ("agent", "warning"),
        ("MQTT", "warning"),
    ]
    assert "No agent answers" in check_running(f"http://127.0.0.1:{free_port()}")[0].fact


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n[]", b""])
def test_running_agent_is_a_fault_when_another_server_uses_its_port(answer: bytes) -> None:
    with answering(answer) as port:
        (finding,) = check_running(f"http://127.0.0.1:{port}")
    assert finding.level == "fault"


def test_running_agent_is_a_fault_when_another_service_answers_json() -> None:
    with answering(b'HTTP/1.0 200 OK\r\n\r\n{"reasons": null}') as port:
        (finding,) = check_running(f"http://127.0.0.1:{port}")
    assert finding.fact.endswith("is not an edge-agent.")


def test_running_agent_is_a_fault_when_its_host_is_invalid() -> None:
    (finding,) = check_running("http://a..b:8501")
    assert finding.level == "fault"

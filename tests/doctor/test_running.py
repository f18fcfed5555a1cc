from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import FakeModels, rest_app
from peers.mosquitto import free_port
from peers.web_server import answering, serving

from agent.doctor.running import check_running
from agent.security.access import AccessRules
from agent.security.tokens import TokensFile, create_token

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(
    ("answer", "level", "fact"),
    [
        (b'{"ready": true}', "ok", "shows its warnings only with a token (--token-file)"),
        (b'{"ready": false}', "fault", "is not ready, and shows why only with a token."),
        (b'{"ready": "yes"}', "fault", "is not an edge-agent."),
        (b'{"ready": true, "name": "x"}', "fault", "is not an edge-agent."),
    ],
)
def test_running_agent_says_only_whether_it_is_ready_when_there_is_no_token(
    answer: bytes, level: str, fact: str
) -> None:
    with answering(b"HTTP/1.0 200 OK\r\n\r\n" + answer) as port:
        (finding,) = check_running(f"http://127.0.0.1:{port}")
    assert finding.level == level
    assert finding.fact.endswith(fact)


def test_running_agent_gets_the_token(tmp_path: Path) -> None:
    rules = AccessRules(tokens=TokensFile(tmp_path / "tokens", is_required=False), is_local=False)
    token = create_token(tmp_path / "tokens", "doctor", "read")
    with serving(rest_app(FakeModels(), access=rules)) as port:
        findings = check_running(f"http://127.0.0.1:{port}", token=token)
    assert "warning" in [finding.level for finding in findings]

"""Checks the files with promtool, and lets a real Prometheus scrape a running agent and evaluate the rules."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from agents.running_agent import RunningAgent, wait_until
from monitoring.expressions import MONITORING, panel_expressions, rules
from peers.mosquitto import free_port

from agent.security.tokens import create_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.prometheus


def promtool(*words: str | Path) -> None:
    answer = subprocess.run(["promtool", *words], check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_configuration_and_the_rules_are_valid() -> None:
    promtool("check", "config", "--syntax-only", "--lint-fatal", MONITORING / "prometheus.yaml")


def test_the_rules_fire_as_listed_in_alerts_test_yaml() -> None:
    promtool("test", "rules", MONITORING / "alerts_test.yaml")


def test_every_rule_is_tested_and_has_severity_summary_and_description() -> None:
    tested = (MONITORING / "alerts_test.yaml").read_text()
    for rule in rules():
        assert rule["alert"] in tested
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} == rule["annotations"].keys()
        assert "$labels.instance" in rule["annotations"]["summary"]


def test_the_expressions_of_the_dashboard_are_valid_promql(tmp_path: Path) -> None:
    records = [{"record": f"panel:{n}", "expr": expression} for n, expression in enumerate(panel_expressions())]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", file)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """URL of a Prometheus with the files of deploy/monitoring that scrapes an agent every second, with a token."""
    shutil.copytree(MONITORING, tmp_path / "monitoring")
    config = tmp_path / "monitoring/prometheus.yaml"
    config.write_text(config.read_text().replace("15s", "1s"))
    (tmp_path / "agent").mkdir()
    with RunningAgent(tmp_path / "agent") as agent:
        token = create_token(tmp_path / "agent/state/tokens", "prometheus", "read")
        (tmp_path / "monitoring/edge-agent.token").write_text(f"{token}\n")
        assert agent.get("/metrics").status_code == 401
        (tmp_path / "monitoring/boards.yaml").write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{agent.port}"]}]))
        port = free_port()
        options = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        with (
            (tmp_path / "prometheus.log").open("wb") as log,
            subprocess.Popen(["prometheus", f"--config.file={config}", *options], stdout=log, stderr=log) as process,
        ):
            yield f"http://127.0.0.1:{port}"
            process.kill()


@pytest.mark.long
def test_prometheus_scrapes_an_agent_and_alerts_only_about_its_missing_model(prometheus: str) -> None:
    wait_until(lambda: "EdgeAgentNotReady" in active_alerts(prometheus), timeout_s=30, what="the alert is pending")
    assert active_alerts(prometheus) == {"EdgeAgentNotReady"}
    groups = query_api(prometheus, "rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    (target,) = query_api(prometheus, "targets")["activeTargets"]
    assert target["lastError"] == ""


def active_alerts(url: str) -> set[str]:
    return {alert["labels"]["alertname"] for alert in query_api(url, "alerts").get("alerts", ())}


def query_api(url: str, endpoint: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = httpx.get(f"{url}/api/v1/{endpoint}", trust_env=False).json()["data"]
    except (httpx.TransportError, ValueError, KeyError):  # Prometheus is still starting
        return {}
    return answer

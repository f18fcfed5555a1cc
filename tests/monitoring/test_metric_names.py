"""Checks that a running agent has every metric and label in the expressions: other rules would never fire."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import VIDEO, RunningAgent, wait_until
from end_to_end.material import digit_png, model_file
from monitoring.expressions import all_expressions, grouping_labels, selections
from peers.mosquitto import free_port
from prometheus_client.parser import text_string_to_metric_families

from agent.metrics import registry as metrics

if TYPE_CHECKING:
    from collections.abc import Callable

_DOCUMENT = Path(__file__).parents[2] / "docs/reference/metrics.md"


def labels_by_metric(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


@pytest.fixture(scope="module")
def running_metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The labels of each metric of an agent, after each event has occurred once."""
    agent = RunningAgent(
        tmp_path_factory.mktemp("agent"),
        cameras={"gate": {"source": str(VIDEO), "loop": True}},
        mqtt={"enabled": True, "embedded_broker": True, "host": "127.0.0.1", "port": free_port()},
    )
    with agent:
        agent.drop(b"not a model", "bad")
        for version in (1, 2):
            agent.drop(model_file(version))
            wait_until(serves(agent, version), what=f"version {version} is serving")
        agent.post("/predict", content=digit_png())
        agent.post("/api/models/digits/rollback", json={})
        wait_until(lambda: agent.rejection("bad"), what="the bad file is rejected")
        wait_until(
            lambda: 'camera_frames_total{camera="gate"' in agent.get("/metrics").text, what="a frame is classified"
        )
        counted = 'rollbacks_total{cause="operator",model="digits"} 1.0'
        wait_until(lambda: counted in agent.get("/metrics").text, what="the rollback is counted")
        counted_again = "version_inference_seconds_count{"  # of the version serving since the rollback
        wait_until(lambda: counted_again in agent.get("/metrics").text, what="that version classifies a frame")
        return labels_by_metric(agent.get("/metrics").text)


def serves(agent: RunningAgent, version: int) -> Callable[[], bool]:
    return lambda: (agent.model().get("serving") or {}).get("version") == str(version)


@pytest.fixture
def board_metrics(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The metrics that only some boards have."""
    monkeypatch.setattr(metrics, "temperature_celsius", lambda: 50.0)
    monkeypatch.setattr(metrics, "is_throttled", lambda: False)
    return labels_by_metric(metrics.Metrics(version="1", runtime="litert").render().decode())


@pytest.mark.parametrize("expression", all_expressions())
def test_every_expression_uses_metrics_and_labels_of_a_running_agent(
    expression: str, running_metrics: dict[str, set[str]], board_metrics: dict[str, set[str]]
) -> None:
    known = {**board_metrics, **running_metrics}
    labels: set[str] = set()
    for metric, asked in selections(expression):
        assert metric in known
        assert asked.keys() <= known[metric]
        labels |= known[metric]
    assert grouping_labels(expression) <= labels


def test_every_label_value_in_an_expression_is_documented() -> None:
    asked = {
        (metric, value)
        for expression in all_expressions()
        for metric, labels in selections(expression)
        for values in labels.values()
        for value in values.split("|")
    }
    rows = _DOCUMENT.read_text().splitlines()
    unknown = [
        (metric, value)
        for metric, value in asked
        if not any(f"`{family(metric)}`" in row and value in row for row in rows) and metric.startswith("edge_agent_")
    ]
    assert unknown == []


def family(metric: str) -> str:
    for suffix in ("_bucket", "_sum", "_count"):
        metric = metric.removesuffix(suffix)
    return metric
